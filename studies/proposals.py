"""Hyperparameters of a trial that come from a user or from another study instead of the sampler.

A user's mistakes are refused. Another study's values are adapted to this study's search space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    check_distribution_compatibility,
)
from optuna.trial import FrozenTrial

from studies.definition import Definition, Parameter, Value
from studies.errors import StudyError
from studies.keys import check_keys

FIXED_PARAMS = "fixed_params"
"""Key of the system attribute in which Optuna stores the values given to `enqueue_trial`."""


@dataclass(frozen=True)
class Proposal:
    """Values for some of the parameters that a study searches; the sampler chooses the others."""

    values: dict[str, Value]
    notes: tuple[str, ...] = ()
    """Changed or omitted values, a few words each."""


def read_proposal(definition: Definition, texts: Sequence[str], where: str) -> Proposal:
    """Read a proposal from words such as `learning_rate=0.002`.

    Args:
        definition: Search space of the study.
        texts: The words, NAME=VALUE each.
        where: Name of the study, for error messages.

    Raises:
        StudyError: A name is unknown or repeated, a value lies outside the space, or the other values leave a parameter
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


def why_refused(definition: Definition, trial: FrozenTrial) -> str | None:
    """Return why the values that a trial was queued with lie outside the space; None if they lie inside.

    hpsearch queues only values inside. Any program that uses Optuna may queue others, which Optuna does not check.

    Args:
        definition: Search space of the study.
        trial: The trial. Optuna keeps the values of `enqueue_trial` in a system attribute, and those of `add_trial`
            among the hyperparameters.
    """
    fixed = trial.system_attrs.get(FIXED_PARAMS)
    values = (fixed if isinstance(fixed, dict) else {}) | trial.params
    known = {parameter.name: parameter for parameter in definition.parameters}
    try:
        check_keys(values, known, "its values")
        for name, value in values.items():
            if not known[name].contains(value):
                raise StudyError(f"`{name}` must be {allowed(known[name])}, but is {value!r}")
        _check_used(definition, values, "its values")
    except StudyError as error:
        return str(error)
    return None


def kind_clash(study: Study, definition: Definition) -> str:
    """Return which trial's values are of another kind than the space's, such as choices instead of a range.

    Optuna then refuses the space's own kind for every further trial. Empty if there is no such trial.
    """
    wanted = {one.name: _distribution(one) for one in definition.parameters if one.value is None}
    for trial in study.get_trials(deepcopy=False):
        for name in trial.distributions.keys() & wanted.keys():
            try:
                check_distribution_compatibility(trial.distributions[name], wanted[name])
            except ValueError:
                return (
                    f"trial {trial.number}, which another program added, has `{name}` as {trial.distributions[name]}, "
                    f"and this study has {wanted[name]}: restore a backup, or use another workspace"
                )
    return ""


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None
    return FloatDistribution(parameter.low, parameter.last_step, log=parameter.log, step=parameter.step)


def allowed(parameter: Parameter) -> str:
    """Return the allowed values of a parameter, in words."""
    if parameter.value is not None:
        return f"{parameter.value} (fixed in this study)"
    if parameter.choices:
        return f"one of {', '.join(map(str, parameter.choices))}"
    steps = f" in steps of {parameter.step:g}" if parameter.step else ""
    return f"a number from {parameter.low:g} to {parameter.high:g}{steps}"


def _read(parameter: Parameter, text: str, where: str) -> Value:
    """Return the value that a text stands for; StudyError if it lies outside the space."""
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
    """Raise StudyError unless every given value is certain to be used, whatever the sampler chooses for the others."""
    fixed = {one.name: one.value for one in definition.parameters if one.value is not None}
    chosen: dict[str, Value | None] = {**fixed, **values}
    for parameter in definition.parameters:
        for name, wanted in parameter.when.items() if parameter.name in values else ():
            if chosen.get(name) not in wanted:
                condition = f"{name}={' or '.join(map(str, wanted))}"
                raise StudyError(
                    f"{where}: `{parameter.name}` is only used when {condition}: omit it, or also give "
                    f"{name}={wanted[0]}"
                )


def fitted(definition: Definition, values: Mapping[str, Value]) -> Proposal:
    """Adapt another study's hyperparameters to this search space.

    Numbers outside a range move to its nearest end or step. Unknown choices are left to the sampler.
    """
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
    """Return the number of a trial that has these values or is queued with them; None if there is none.

    Its other hyperparameters may have any value.
    """
    for trial in study.get_trials(deepcopy=False):
        chosen = trial.system_attrs.get(FIXED_PARAMS, {}) | trial.params
        if all(name in chosen and chosen[name] == value for name, value in values.items()):
            return trial.number
    return None


def enqueue(study: Study, proposal: Proposal, marks: Mapping[str, str] | None = None) -> int:
    """Queue a trial with these values and return its number; `study.ask` returns it before it samples new trials.

    Args:
        study: Study to add the trial to.
        proposal: Values of the trial.
        marks: User attributes of the trial.
    """
    before = {trial.number for trial in study.get_trials(deepcopy=False)}
    study.enqueue_trial(dict(proposal.values), user_attrs=dict(marks or {}))
    added = [one for one in study.get_trials(deepcopy=False) if one.number not in before]
    own = [one for one in added if one.system_attrs.get(FIXED_PARAMS) == proposal.values]
    return own[0].number
