"""The errors that a user can mend, each package's own; the command line alone turns them into Click's."""

from data_prep.errors import DataError
from models.errors import ModelError
from studies.errors import StudyError


class SearchError(ValueError):
    """The search cannot go on as asked; the message says why and what to do, in one line."""


USER_ERRORS = (DataError, ModelError, StudyError, SearchError)
