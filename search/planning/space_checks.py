"""What the search space of a study may hold, with this backbone on this prepared set."""

from __future__ import annotations

from dataclasses import asdict

from data_prep.settings import STRENGTHS
from data_prep.storage.reader import PreparedSet
from models.backbones.registry import Backbone, default_resolution
from models.hyperparameters import Hyperparameters
from search.errors import SearchError
from studies.definition import Definition, Parameter


def check_definition(definition: Definition) -> None:
    """ModelError or SearchError when the space reaches outside what a hyperparameter may be."""
    for parameter in definition.parameters:
        for value in parameter.ends():
            levels = Hyperparameters.from_dict({parameter.name: value}).levels
            if unknown := set(levels) - set(STRENGTHS):
                raise SearchError(f"unknown augmentation level {min(unknown)!r}: there are {', '.join(STRENGTHS)}")


def complete(definition: Definition, prepared: PreparedSet, backbone: Backbone) -> Definition:
    """The definition with every hyperparameter in it, so that a study says what its trials are trained with.

    One that a user's space leaves out is fixed at its default; the augmentation at all that the prepared set has, the
    resolution at what the backbone needs.
    """
    resolution = default_resolution(backbone, prepared.image_shape)
    defaults = asdict(Hyperparameters(augmentation="+".join(prepared.levels) or "none", resolution=resolution))
    given = {parameter.name for parameter in definition.parameters}
    missing = [Parameter(name, value=value) for name, value in defaults.items() if name not in given]
    return Definition((*definition.parameters, *missing), definition.first)


def resolutions_of(definition: Definition) -> tuple[int, ...]:
    """All that the space has. SearchError where it has too many."""
    found = [parameter for parameter in definition.parameters if parameter.name == "resolution"]
    if any(parameter.low is not None for parameter in found):
        raise SearchError("`resolution` needs `choices` or a `value`: each resolution is a network of its own")
    values = [int(value) for parameter in found for value in parameter.ends()]
    if not found or found[0].when:  # studies of before do not name it
        values.append(Hyperparameters.resolution)
    return tuple(dict.fromkeys(values))
