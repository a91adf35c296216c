"""Hyperparameters that somebody proposes for a trial, before the sampler does: a user, whose mistakes are refused, or
another study, whose values are brought into this one's space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

from optuna import Study

from studies.definition import Definition, Parameter, Value
from studies.errors import StudyError
from studies.keys import check_keys

FIXED_PARAMS = "fixed_params"
"""Optuna's own name, in a trial's system attributes, for what `enqueue_trial` was given."""


@dataclass(frozen=True)
class Proposal:
    """Values for some of the parameters that a study searches; the sampler proposes the others."""

    values: dict[str, Value]
    notes: tuple[str, ...] = ()
    """What was changed or left out, a few words each."""


def read_proposal(definition: Definition, texts: Sequence[str], where: str) -> Proposal:
    """From words such as `learning_rate=0.002`.

    Args:
        where: what errors call the space, the study's name.

    Raises StudyError for an unknown or repeated name, a value outside the space, or a parameter that the others leave
    unused.
    """
    known = {parameter.name: parameter for parameter in definition.parameters}
    pairs = [text.partition("=") for text in texts]
    for name, sign, _ in pairs:
        if not sign:
            raise StudyError(f"{name!r} must be a hyperparameter and its value, such as learning_rate=0.002")
    given = [name for name, _, _ in pairs]
    check_keys(given, known, where)
    if repeated := next((name for name in given if given.count(name) > 1), None):
        raise StudyError(f"{where}: `{repeated}` is given {given.count(repeated)} times: give it once")
    values = {name: _read(known[name], text, where) for name, _, text in pairs}
    _check_used(definition, values, where)
    return Proposal(definition.searched(values))


def allowed(parameter: Parameter) -> str:
    """What a value may be, in words."""
    if parameter.value is not None:
        return f"{parameter.value}, at which this study fixes it"
    if parameter.choices:
        return f"one of {', '.join(map(str, parameter.choices))}"
    steps = f" in steps of {parameter.step:g}" if parameter.step else ""
    return f"a number from {parameter.low:g} to {parameter.high:g}{steps}"


def _read(parameter: Parameter, text: str, where: str) -> Value:
    """The value that a text stands for."""
    number = _number(text)
    if parameter.value is None and not parameter.choices:
        if number is not None and parameter.contains(number):
            return number
    else:
        for choice in parameter.ends():
            is_number = isinstance(choice, int | float) and not isinstance(choice, bool)
            if (number == choice) if is_number else (text.lower() == str(choice).lower()):
                return choice
    raise StudyError(f"{where}: `{parameter.name}` must be {allowed(parameter)}, but is {text!r}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _check_used(definition: Definition, values: dict[str, Value], where: str) -> None:
    """StudyError for a value that would go unused, or might, whatever else the sampler proposes."""
    fixed = {one.name: one.value for one in definition.parameters if one.value is not None}
    chosen: dict[str, Value | None] = {**fixed, **values}
    for parameter in definition.parameters:
        for name, wanted in parameter.when.items() if parameter.name in values else ():
            if chosen.get(name) not in wanted:
                way_out = f"leave it out, or give {name}={wanted[0]} as well"
                raise StudyError(
                    f"{where}: `{parameter.name}` is used with {name}={' or '.join(map(str, wanted))} alone: {way_out}"
                )


def fitted(definition: Definition, values: Mapping[str, Value]) -> Proposal:
    """Another study's hyperparameters as far as this space has them: numbers outside a range are moved to its end or to
    the nearest step, unknown choices are left to the sampler."""
    chosen: dict[str, Value] = {}
    searched: dict[str, Value] = {}
    notes = [f"`{name}` is dropped" for name in values.keys() - {one.name for one in definition.parameters}]
    for parameter in definition.parameters:
        if not parameter.is_used(chosen):
            continue
        name, old = parameter.name, values.get(parameter.name)
        if parameter.value is not None:
            chosen[name] = parameter.value
            notes += [f"`{name}` is fixed at {parameter.value}"] if old not in (None, parameter.value) else []
            continue
        new = None if old is None else _nearest(parameter, old)
        if new is None:
            notes.append(f"`{name}` is left to the sampler" + (f", {old} is unknown" if old is not None else ""))
            continue
        chosen[name] = searched[name] = new
        notes += [f"`{name}` {_short(old)} becomes {_short(new)}"] if new != old else []
    return Proposal(searched, tuple(notes))


def _nearest(parameter: Parameter, value: Value) -> Value | None:
    if parameter.contains(value):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if parameter.choices or not is_number:
        return None
    assert parameter.low is not None and parameter.high is not None
    inside = min(max(float(value), parameter.low), parameter.high)
    if not parameter.step:
        return inside
    steps = min(round((inside - parameter.low) / parameter.step), _whole_steps(parameter))
    return parameter.low + steps * parameter.step


def _whole_steps(parameter: Parameter) -> int:
    assert parameter.low is not None and parameter.high is not None and parameter.step is not None
    return floor((parameter.high - parameter.low) / parameter.step + 1e-9)


def _short(value: Value | None) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tried(study: Study, values: Mapping[str, Value]) -> int | None:
    """The number of a trial that has these values, whatever its others are, or waits with them; None without any."""
    for trial in study.get_trials(deepcopy=False):
        chosen = trial.system_attrs.get(FIXED_PARAMS, {}) | trial.params
        if all(name in chosen and chosen[name] == value for name, value in values.items()):
            return trial.number
    return None


def enqueue(study: Study, proposal: Proposal, marks: Mapping[str, str] | None = None) -> int:
    """The number of the new trial that waits with these values: `study.ask` gives it out before new ones.

    Args:
        marks: user attributes of the trial.
    """
    before = {trial.number for trial in study.get_trials(deepcopy=False)}
    study.enqueue_trial(dict(proposal.values), user_attrs=dict(marks or {}))
    added = [one for one in study.get_trials(deepcopy=False) if one.number not in before]
    own = [one for one in added if one.system_attrs.get(FIXED_PARAMS) == proposal.values]
    return own[0].number
