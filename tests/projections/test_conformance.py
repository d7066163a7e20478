"""Every projection keeps the promises of projections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from projections.projection import Projection
from projections.registry import REGISTRY
from tests.projections.ledger import Ledger
from tests.projections.projection_conformance import CASES
from tests.projections.stories import everything


@pytest.mark.parametrize("projection", REGISTRY, ids=lambda projection: projection.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_projection(case: Callable[[Path, Ledger, Projection], None], projection: Projection, tmp_path: Path) -> None:
    case(tmp_path, everything(), projection)
