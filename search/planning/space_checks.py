"""Check and complete a study's search space for its backbone and prepared set."""

from __future__ import annotations

from dataclasses import asdict, fields

from data_prep.settings import STRENGTHS
from data_prep.storage.reader import PreparedSet
from models.backbones.registry import Backbone, default_resolution
from models.errors import ModelError
from models.hyperparameters import Hyperparameters
from search.errors import SearchError
from studies.definition import Definition, Parameter, Value

TRUE_OR_FALSE = frozenset(one.name for one in fields(Hyperparameters) if one.type == "bool")
WHOLE_NUMBERS = frozenset(one.name for one in fields(Hyperparameters) if one.type == "int")


def check_definition(definition: Definition) -> None:
    """Check that the space holds valid hyperparameters only.

    Raises:
        ModelError: A value is outside the range of its hyperparameter.
        SearchError: An augmentation level is unknown.
    """
    for parameter in definition.parameters:
        for value in parameter.ends():
            _check_value(parameter.name, value)
        for name, values in parameter.when.items():
            for value in values:
                try:
                    _check_value(name, value)
                except ModelError as error:
                    raise SearchError(f"[space.{parameter.name}] when: {error}") from error
        _check_whole(parameter)


def _check_value(name: str, value: Value) -> None:
    if isinstance(value, bool) and name not in TRUE_OR_FALSE:
        raise SearchError(f"`{name}` must not be true or false, but the value is {str(value).lower()}")
    levels = Hyperparameters.from_dict({name: value}).levels
    if unknown := set(levels) - set(STRENGTHS):
        raise SearchError(f"unknown augmentation level {min(unknown)!r}: there are {', '.join(STRENGTHS)}")


def _check_whole(parameter: Parameter) -> None:
    """Raise SearchError for a range of whole numbers that holds others."""
    if parameter.name not in WHOLE_NUMBERS - {"resolution"} or parameter.low is None:
        return
    if parameter.step is None or not all(float(one or 0).is_integer() for one in (*parameter.ends(), parameter.step)):
        raise SearchError(
            f"`{parameter.name}` must be a whole number: give its range whole ends and a whole `step`, such as step = 1"
        )


def complete(definition: Definition, prepared: PreparedSet, backbone: Backbone) -> Definition:
    """Return the definition with every hyperparameter in it, so that the study records how its trials are trained.

    A hyperparameter that the user's space leaves out is fixed at its default: for the augmentation all levels of the
    prepared set, for the resolution the one that the backbone needs.
    """
    resolution = default_resolution(backbone, prepared.image_shape)
    defaults = asdict(Hyperparameters(augmentation="+".join(prepared.levels) or "none", resolution=resolution))
    given = {parameter.name for parameter in definition.parameters}
    missing = [Parameter(name, value=value) for name, value in defaults.items() if name not in given]
    return Definition((*definition.parameters, *missing), definition.first)


def resolutions_of(definition: Definition) -> tuple[int, ...]:
    """Return all resolutions in the space.

    Raises:
        SearchError: The resolution is a range instead of a value or choices.
    """
    found = [parameter for parameter in definition.parameters if parameter.name == "resolution"]
    if any(parameter.low is not None for parameter in found):
        raise SearchError("`resolution` needs `choices` or a `value`: each resolution is a network of its own")
    values = [int(value) for parameter in found for value in parameter.ends()]
    if not found or found[0].when:  # unused in some trials, or absent as in studies of earlier versions
        values.append(Hyperparameters.resolution)
    return tuple(dict.fromkeys(values))
