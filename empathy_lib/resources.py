"""Where people in a crisis find help, by place: ``bundled/resources.yaml``, each number with its source. Read strictly: a
mistake in this file must not be found out by somebody who needs it. Numbers change; verify them locally."""

from functools import cache
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from yaml import YAMLError

from empathy_lib import BUNDLED


class Resource(BaseModel):
    """One service: its name, how to reach it, when, for what, and who publishes that."""
    model_config = ConfigDict(extra="forbid", frozen=True, str_min_length=1, str_strip_whitespace=True)
    name: str
    contact: str
    hours: str
    about: str = Field(alias="for")
    source: str
    confirmed: bool = True  # False: the number was found on no page of the service itself


class Place(BaseModel):
    """The services of a place, the most urgent first, and the month in which they were checked."""
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1)
    checked: str = Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")
    resources: tuple[Resource, ...] = Field(min_length=1)


@cache
def places(file: Path = BUNDLED / "resources.yaml") -> dict[str, Place]:
    """All places by locale (``zh-CN``, ``en-GB`` …; ``default`` is any other). ValueError names the file, place and field."""
    try:
        found = TypeAdapter(dict[str, Place]).validate_python(OmegaConf.to_container(OmegaConf.load(file), throw_on_missing=True))
    except ValidationError as error:
        first = error.errors()[0]
        where = " → ".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
        raise ValueError(f"{file}: {where}: {first['msg']}") from None
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as help resources: {error}") from None
    if "default" not in found:
        raise ValueError(f"{file}: needs a place 'default', for all that are not named")
    return found


def help_for(locale: str, file: Path = BUNDLED / "resources.yaml") -> Place:
    """The services of ``locale``; ValueError names those that are known."""
    known = places(file)
    if locale not in known:
        raise ValueError(f"no help resources for the locale '{locale}'; {file.name} has {', '.join(known)} (default: any other place)")
    return known[locale]
