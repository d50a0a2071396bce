"""The sources of the variables: the environment, a `.env` file, and the files of secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server.config.dotenv_file import read_dotenv
from server.config.secret_files import file_variable, read_secret_files
from server.config.settings import SECRETS, VARIABLES
from server.config.spelling import find_misspelled


@dataclass(frozen=True, slots=True)
class Sources:
    """The values of all sources by name, without empty ones, and what is wrong with the sources.

    `from_files` names the secrets that a file gives. Faults are by name; the fault of a secret's
    file is by the name of the secret.
    """

    values: Mapping[str, str] = field(repr=False)
    from_files: frozenset[str]
    faults: Mapping[str, str]
    warnings: tuple[str, ...]

    def variable_of(self, name: str) -> str:
        """Return the variable that gives the value of `name`: itself or its `NAME_FILE`."""
        return file_variable(name) if name in self.from_files else name


def read_sources(environ: Mapping[str, str], dotenv: Path) -> Sources:
    """Read all sources: the environment wins over the file; an empty value counts as unset.

    Raises OSError when the `.env` file cannot be read.
    """
    file = read_dotenv(dotenv)
    given = {name: value for name, value in file.values.items() if value}
    given |= {name: value for name, value in environ.items() if value}
    contents, faults = read_secret_files(given, SECRETS)
    empty = [name for name, content in contents.items() if not content]
    return Sources(
        values=given | {name: content for name, content in contents.items() if content},
        from_files=frozenset(contents.keys() | faults.keys()).difference(empty),
        faults={**faults, **file.faults},
        warnings=(
            *find_misspelled(sorted(file.values.keys() | environ.keys()), VARIABLES),
            *(f"{file_variable(name)}: the file is empty; {name} is unset" for name in empty),
        ),
    )
