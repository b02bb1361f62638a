"""Settings of the `features` job. Light to import."""

from pydantic import Field

from e2llm_core.claims.table import DEFAULT_KINDS, ClaimKindName
from e2llm_core.inputs import ModelInput, StoreInput, WindowsOfModel
from e2llm_core.plan import Input, Plan
from storage.features import Precision
from storage.places.base import Place, StoreURL
from storage.windows import WindowConfig


class FeaturesPlan(Plan):
    """The tower and the windows of a features job."""

    store: StoreURL = Field(description="folder, or s3://bucket/prefix")
    windows: WindowConfig = Field(default_factory=WindowConfig)
    model: Place = Field(description="model directory of any stage: its tower")
    claims: tuple[ClaimKindName, ...] = Field(
        DEFAULT_KINDS, min_length=1, description="kinds of claim to measure; as data.claims of the stages"
    )
    precision: Precision = Field("fp32", description="of the numbers on disk; they are computed in the tower's own")
    block: int = Field(256, ge=1, description="windows that are computed and written together")

    def inputs(self) -> tuple[Input, ...]:
        """A model, a store, and the windows to score."""
        return (
            ModelInput("model", self.model),
            StoreInput("store", self.store),
            WindowsOfModel("damage", self.model, self.store, self.windows),
        )
