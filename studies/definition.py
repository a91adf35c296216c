"""A study's definition, read from TOML: its search space and the trials to run first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from importlib import resources
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.errors import StudyError
from studies.keys import check_keys
from studies.toml_file import read_toml

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Value = str | float | int | bool


@dataclass(frozen=True)
class Parameter:
    """One dimension of the search space.

    Give one of three: `value`, `choices`, or both `low` and `high`.

    Raises:
        StudyError: The fields contradict each other.
    """

    name: str
    value: Value | None = None
    """Fixed value, the same in all trials."""
    choices: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    """Whether the range is sampled on a logarithmic scale."""
    step: float | None = None
    """Distance between two values of the range; None: any number in it."""
    when: Mapping[str, list[Value]] = field(default_factory=dict)
    """Names of earlier parameters, each with the values under which this one is used."""

    def __post_init__(self) -> None:
        ways = [self.value is not None, bool(self.choices), self.low is not None or self.high is not None]
        if sum(ways) != 1:
            raise StudyError(f"the parameter `{self.name}` needs one of `value`, `choices`, or `low` and `high`")
        if self.low is None and self.high is None:
            self._check_values()
            return
        if not (_is_number(self.low) and _is_number(self.high) and self.low <= self.high < inf):  # type: ignore[operator]
            raise StudyError(f"`{self.name}`: `low <= high` must hold, but got low={self.low}, high={self.high}")
        if self.step is not None and not (_is_number(self.step) and 0 < self.step < inf):
            raise StudyError(f"`{self.name}`: `step > 0` must hold, but got step={self.step!r}")
        if self.log and (self.step or self.low <= 0):  # type: ignore[operator]
            raise StudyError(f"`{self.name}`: `log` needs `low > 0` and no `step`, but got low={self.low}")
        if self.step and self.step > self.high - self.low:  # type: ignore[operator]
            raise StudyError(
                f"`{self.name}`: `step` must be at most high - low, but got step={self.step:g} from {self.low:g} to "
                f"{self.high:g}: give a smaller step, or `value`"
            )

    def _check_values(self) -> None:
        """Raise StudyError for choices that are listed twice, and for numbers that are none."""
        choices = self.ends()
        if self.log or self.step is not None:
            raise StudyError(f"`{self.name}`: `log` and `step` need `low` and `high`: leave them out, or give a range")
        if endless := [one for one in choices if isinstance(one, float) and not isfinite(one)]:
            raise StudyError(f"`{self.name}`: numbers must be finite, but got {endless[0]}")
        if twice := [one for one in choices if choices.count(one) > 1]:
            raise StudyError(
                f"`{self.name}`: `choices` must differ, but {twice[0]!r} is there {choices.count(twice[0])} times"
            )

    @property
    def last_step(self) -> float:
        """Upper end of a range: with a `step`, the last one that is not above `high`."""
        assert self.low is not None and self.high is not None
        if not self.step:
            return self.high
        low, high, step = (Decimal(str(one)) for one in (self.low, self.high, self.step))  # as Optuna computes it
        return float(low + (high - low) // step * step)

    def ends(self) -> tuple[Value, ...]:
        """Return the values that bound the parameter: all choices, the fixed value, or `low` and `high`."""
        if self.choices or self.value is not None:
            return self.choices or (self.value,)  # type: ignore[return-value]
        assert self.low is not None
        assert self.high is not None
        return (self.low, self.high)

    def is_used(self, chosen: Mapping[str, Value]) -> bool:
        """Return whether the other hyperparameters of a trial meet the conditions of `when`."""
        return all(chosen.get(name) in values for name, values in self.when.items())

    def suggest(self, trial: BaseTrial) -> Value:
        """Return the fixed value, or the one that Optuna chooses for this trial."""
        if self.value is not None:
            return self.value
        if self.choices:
            chosen: Value = trial.suggest_categorical(self.name, self.choices)  # type: ignore[assignment]
            return chosen
        assert self.low is not None and self.high is not None
        return trial.suggest_float(self.name, self.low, self.last_step, log=self.log, step=self.step)

    def contains(self, value: Value) -> bool:
        """Return whether a trial may have this value; with a `step`, it must lie on a step of the range."""
        if self.value is not None:
            return value == self.value
        if self.choices:
            return value in self.choices
        assert self.low is not None and self.high is not None
        if not (_is_number(value) and self.low <= float(value) <= self.high):
            return False
        steps = (float(value) - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-9


@dataclass(frozen=True)
class Definition:
    """Search space of one backbone, and the hyperparameters of the trials to run first."""

    parameters: tuple[Parameter, ...]
    first: tuple[Mapping[str, Value], ...] = ()

    def suggest(self, trial: BaseTrial) -> dict[str, Value]:
        """Return the hyperparameters of a trial: fixed ones included, unused ones left out."""
        chosen: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.is_used(chosen):
                chosen[parameter.name] = parameter.suggest(trial)
        return chosen

    def why_not(self, values: Mapping[str, Value]) -> str | None:
        """Return why these hyperparameters lie outside the space, in words; None if they lie inside."""
        used = [parameter for parameter in self.parameters if parameter.is_used(values)]
        for parameter in used:
            if parameter.name not in values:
                if parameter.value is not None:
                    continue  # a fixed parameter may be left out
                return f"`{parameter.name}` is missing"
            if not parameter.contains(values[parameter.name]):
                return f"`{parameter.name}` = {values[parameter.name]!r} is outside the search space"
        extra = set(values) - {parameter.name for parameter in used}
        return f"`{min(extra)}` is not in the search space" if extra else None

    def notes(self) -> list[str]:
        """Return a line for each range whose `step` does not reach its `high`, and for each unused parameter."""
        steps = [
            f"`{one.name}` goes from {one.low:g} in steps of {one.step:g} up to {one.last_step:g}, not {one.high:g}"
            for one in self.parameters
            if one.step and one.high is not None and one.last_step < one.high
        ]
        known = {one.name: one for one in self.parameters}
        unused = [
            f"`{one.name}` is never used: `{name}` is never {' or '.join(map(str, values))}"
            for one in self.parameters
            for name, values in one.when.items()
            if not any(known[name].contains(value) for value in values)
        ]
        return steps + unused

    def searched(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return the hyperparameters that Optuna chooses, without the fixed ones."""
        fixed = {parameter.name for parameter in self.parameters if parameter.value is not None}
        return {name: value for name, value in values.items() if name not in fixed}

    def without_levels(self, levels: Iterable[str]) -> Definition:
        """Return the space with only the augmentation choices that a prepared set offers.

        Args:
            levels: Augmentation strengths of the prepared set.

        Raises:
            StudyError: The space fixes an augmentation that the set lacks.
        """
        have = {"none", *levels}
        parameters = []
        for parameter in self.parameters:
            if parameter.name == "augmentation" and not set(str(parameter.value or "none").split("+")) <= have:
                raise StudyError(
                    f"the space fixes augmentation = {parameter.value}, and the prepared set has "
                    f"{', '.join(sorted(have))}: prepare it again with --levels, or change the space"
                )
            if parameter.name == "augmentation" and parameter.choices:
                kept = tuple(choice for choice in parameter.choices if set(str(choice).split("+")) <= have)
                parameter = Parameter("augmentation", choices=kept or ("none",), when=parameter.when)
            parameters.append(parameter)
        return Definition(tuple(parameters), self.first)

    def fixed(self, name: str, value: Value) -> Definition:
        """Return the space with one parameter fixed at `value`, also in the trials to run first."""
        others = [parameter for parameter in self.parameters if parameter.name != name]
        first = [{key: one for key, one in table.items() if key != name} for table in self.first]
        return Definition((Parameter(name, value=value), *others), tuple(first))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the space without the trials to run first, ready for JSON; `definition_of` reads it back."""
        empty = asdict(Parameter("", value=0)) | {"value": None}
        return {
            parameter.name: {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in asdict(parameter).items()
                if key != "name" and value != empty[key]
            }
            for parameter in self.parameters
        }


SHIPPED = ("default", "robust")
"""Names of the definitions that come with hpsearch, as studies/NAME.toml."""


def read_definition(source: str, backbone: str, known: Iterable[str], backbones: Iterable[str]) -> Definition:
    """Read the definition for one backbone from a TOML file.

    Args:
        source: A name from SHIPPED, or the path of a file.
        backbone: Name of the backbone, whose own table replaces parts of the general one.
        known: Names that a parameter may have.
        backbones: Names that may have a table of their own, [backbone.NAME].

    Raises:
        StudyError: The file cannot be read, or has an unknown key.
    """
    where = f"studies/{source}.toml" if source in SHIPPED else source
    file = resources.files("studies") / f"{source}.toml" if source in SHIPPED else Path(source)
    content = read_toml(file, f"the search space {where}")
    check_keys(content, ("space", "first", "backbone"), where)
    overrides = _table(content, "backbone", where)
    check_keys(overrides, backbones, f"{where} [backbone]")
    override = _table(overrides, backbone, f"{where} [backbone]")
    check_keys(override, ("space", "first"), f"{where} [backbone.{backbone}]")
    space = _table(content, "space", where) | _table(override, "space", f"{where} [backbone.{backbone}]")
    if not space:
        raise StudyError(f"{where} defines no parameter: it needs a [space.NAME] table for each")
    check_keys(space, known, f"{where} [space]")
    first = (override if "first" in override else content).get("first", [])
    if not isinstance(first, list) or not all(isinstance(table, dict) for table in first):
        raise StudyError(f"{where}: `first` must be a list of [[first]] tables, but is {first!r}")
    for table in first:
        check_keys(table, known, f"{where} [[first]]")
    definition = definition_of(space, tuple(first), where)
    _check_conditions(definition, where)
    return definition


def _check_conditions(definition: Definition, where: str) -> None:
    """Raise StudyError for a `when` on a range, or without values."""
    known = {parameter.name: parameter for parameter in definition.parameters}
    for parameter in definition.parameters:
        place = f"{where} [space.{parameter.name}] when"
        for name, values in parameter.when.items():
            other = known[name]
            if other.low is not None:
                raise StudyError(f"{place}: `{name}` is a range: give it `choices`, or leave it out of `when`")
            if not values:
                raise StudyError(f"{place}: `{name}` has no value: list some of {', '.join(map(str, other.ends()))}")


def definition_of(
    space: Mapping[str, Any], first: tuple[Mapping[str, Value], ...] = (), where: str = "the study"
) -> Definition:
    """Build a definition from one table per parameter.

    Args:
        space: Parameter name -> its fields, as `Definition.as_dict` returns them.
        first: Hyperparameters of the trials to run first.
        where: Name of the source in error messages.

    Raises:
        StudyError: A key is unknown, or a parameter is invalid.
    """
    parameters = []
    for name, table in space.items():
        if not isinstance(table, Mapping):
            raise StudyError(f"{where} [space]: `{name}` must be a table, but is {table!r}")
        check_keys(table, [item.name for item in fields(Parameter) if item.name != "name"], f"{where} [space.{name}]")
        parameters.append(_parameter(name, table, where))
    earlier: set[str] = set()
    for parameter in parameters:
        place = f"{where} [space.{parameter.name}] when"
        if later := next((name for name in parameter.when if name in space and name not in earlier), None):
            raise StudyError(f"{place}: `{later}` must stand before `{parameter.name}`: move its table up")
        check_keys(parameter.when, earlier, place)
        earlier.add(parameter.name)
    return Definition(tuple(parameters), first)


def _parameter(name: str, table: Mapping[str, Any], where: str) -> Parameter:
    place = f"{where} [space.{name}]"
    kinds = (
        ("choices", list, "a list"),
        ("when", dict, "a table"),
        ("log", bool, "true or false"),
        ("value", str | int | float | bool, "a single value"),
        *((key, int | float, "a number, without quotes") for key in ("low", "high", "step")),
    )
    for key, kind, wanted in kinds:
        if key in table and not isinstance(table[key], kind):
            raise StudyError(f"{place}: `{key}` must be {wanted}, but is {table[key]!r}")
    are_scalars = all(isinstance(choice, str | int | float | bool) for choice in table.get("choices", ()))
    if not are_scalars or not all(isinstance(values, list) for values in table.get("when", {}).values()):
        raise StudyError(f"{place}: `choices` must hold plain values, and `when` a list of values for each name")
    values: dict[str, Any] = {key: tuple(value) if key == "choices" else value for key, value in table.items()}
    try:
        return Parameter(name, **values)
    except StudyError as error:
        raise StudyError(f"{where} [space]: {error}") from error


def _table(content: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise StudyError(f"{where}: `{key}` must be a table, but is {table!r}")
    return table


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
