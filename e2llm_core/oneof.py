"""Settings that name one of a registry's entries. Light to import."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function


@dataclass(frozen=True)
class OneOf:
    """Has settings refuse a text that is none of some names, and a JSON Schema list them."""

    names: Callable[[], Iterable[str]]

    def _known(self, text: str) -> str:
        if text not in (names := list(self.names())):
            raise PydanticCustomError("unknown_name", "is none of {names}", {"names": ", ".join(names)})
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(self.names()), "type": "string"}
