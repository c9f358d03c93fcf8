"""One study open in OHIF: what a reader clicks on, and what is then on the screen."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright import sync_api

from node.domain import Role
from node.encode.identity import SERIES_NUMBER_OFFSET
from tests.peers import REPOSITORY, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

    Color = tuple[int, int, int]

SCREENSHOTS = REPOSITORY / "build" / "browser"
PATIENCE_S = 60.0
OPENING_S = 20.0
OPENINGS_OF_A_MAP = 4

_VIEWPORT = """services.cornerstoneViewportService.getCornerstoneViewport(
  services.viewportGridService.getState().activeViewportId
)"""
_SHOWS = """number => {
  const {viewports, activeViewportId} = services.viewportGridService.getState();
  return viewports.get(activeViewportId).displaySetInstanceUIDs.some(
    uid => services.displaySetService.getDisplaySetByUID(uid)?.SeriesNumber == number
  );
}"""
_SWATCHES = """() => Object.fromEntries(
  [...document.querySelectorAll('[data-cy="data-row"]')].map(row => [
    row.querySelector('[data-cy="data-row-title"]').innerText,
    getComputedStyle(row.querySelector('[data-cy="data-row-colorhex"]')).backgroundColor,
  ])
)"""
_CANVAS = "viewport.getCanvas().toDataURL('image/png')"
_TO_WORLD = "given.map(point => Array.from(viewport.canvasToWorld(point)))"
_SCROLL = "viewport.setImageIdIndex(viewport.getImageIds().findIndex(id => id.includes(given)))"
_OUTLINES = "lines => lines.map(line => Array.from(line.points, point => [point.x, point.y]))"
_BOXES = "all => all.map(one => one.getBoundingClientRect().toJSON())"


@dataclass(frozen=True)
class Tint:
    """What is on the screen in one colour.

    Attributes:
        points_mm: Where its pixels are in the patient: (pixels, 3).
        pixel_mm2: Area of each.
    """

    points_mm: npt.NDArray[np.float64]
    pixel_mm2: float

    @property
    def centre_mm(self) -> npt.NDArray[np.float64]:
        """Mean of all points."""
        return self.points_mm.mean(axis=0)

    @property
    def area_mm2(self) -> float:
        """Of all pixels."""
        return len(self.points_mm) * self.pixel_mm2


@dataclass(frozen=True)
class Box:
    """A rectangle on the screen, in its pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether they have more than an edge in common."""
        return (
            min(self.right, other.right) - max(self.left, other.left) > 1.0
            and min(self.bottom, other.bottom) - max(self.top, other.top) > 1.0
        )


@dataclass(frozen=True)
class Viewer:
    """A tab of the browser.

    Attributes:
        page: The tab.
        complaints: Errors that the page did not catch.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)

    def open_series(self, role: Role) -> None:
        """Double-click on a result in the list of series, again if the list swallowed it."""
        number = SERIES_NUMBER_OFFSET[role] + 1
        listed = self.page.locator(f'[data-series="{number}"]')

        def opened() -> bool:
            listed.dblclick()
            try:
                self.page.wait_for_function(_SHOWS, arg=number, timeout=1000 * OPENING_S)
            except sync_api.TimeoutError:
                return False
            return True

        wait_until(opened, timeout_s=PATIENCE_S, what=f"The opening of series {number}")

    def open_map(self, color: Color) -> Tint:
        """Open a parametric map; return where its colour is.

        On a busy machine OHIF 3.13 lays a map over the image before its values have come, about
        once in ten times, and never draws it then: a reader loads the page anew.
        """
        for _ in range(OPENINGS_OF_A_MAP - 1):
            self.open_series(Role.MAP)
            with suppress(pytest.fail.Exception):
                return self.wait_for_tint(color, timeout_s=OPENING_S)
            self.page.reload()
            self.wait_for_image()
        self.open_series(Role.MAP)
        return self.wait_for_tint(color)

    def wait_for_image(self) -> None:
        """Return once the first image of the study is drawn."""
        overlay = self.pane.locator('[data-cy="viewport-overlay-bottom-right"]')
        overlay.get_by_text("I:").wait_for()

    def accept_segmentation(self) -> None:
        """Answer Yes to "Do you want to open this Segmentation?", and open its panel."""
        self.page.get_by_role("button", name="Yes").click()
        self.page.locator('[data-cy="panelSegmentation-btn"]').click()
        self.rows.first.wait_for()

    def scroll_to(self, sop_instance_uid: str) -> None:
        """Show this image."""
        self._ask(_SCROLL, f"/instances/{sop_instance_uid}/")

    @property
    def rows(self) -> Locator:
        """A row of the segmentation panel for each segment."""
        return self.page.locator('[data-cy="data-row"]')

    def wait_for_annotations(self) -> None:
        """Return once the report that was opened is what the viewport shows."""
        self.page.locator('[data-cy^="ModalityLoadBadge"]').wait_for()

    @property
    def labels(self) -> Locator:
        """A text for each annotation on the image."""
        return self.page.locator("svg.svg-layer text")

    @property
    def pane(self) -> Locator:
        """What is shown in place of the image, and over it."""
        return self.page.locator('[data-cy="viewport-pane"]')

    def swatches(self) -> dict[str, tuple[int, ...]]:
        """Return label -> sRGB, as the segmentation panel lists them."""
        # A row that is being drawn anew has no style for a moment.
        self.page.wait_for_function(f"Object.values(({_SWATCHES})()).every(Boolean)")
        listed: dict[str, str] = self.page.evaluate(_SWATCHES)
        return {
            label: tuple(int(part) for part in style.strip("rgb()").split(","))
            for label, style in listed.items()
        }

    def outlines(self) -> list[npt.NDArray[np.float64]]:
        """Return the points of every closed or open line of the annotations, in the patient."""
        drawn = self.page.locator("svg.svg-layer polyline").evaluate_all(_OUTLINES)
        return [self._to_world(points) for points in drawn]

    def wait_for_tint(self, color: Color, *, timeout_s: float = PATIENCE_S) -> Tint:
        """Return where the image is tinted in this colour, once two looks are alike."""
        looks: list[Tint | None] = [None]

        def settled() -> bool:
            looks.append(self._tint(color))
            before, now = looks[-2:]
            return before is not None and now is not None and before.area_mm2 == now.area_mm2

        wait_until(settled, timeout_s=timeout_s, what=f"A tint in {color}")
        assert looks[-1] is not None
        return looks[-1]

    def canvas(self) -> npt.NDArray[np.uint8]:
        """Return the image as drawn, without text and annotations: (height, width, 3)."""
        encoded = self._ask(_CANVAS).partition(",")[2]
        return np.asarray(Image.open(BytesIO(base64.b64decode(encoded))).convert("RGB"))

    def keep_screenshot(self, name: str) -> None:
        """Leave a picture of the tab among what was built."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name.lower().replace(' ', '-')}.png")

    def _tint(self, color: Color) -> Tint | None:
        pixels = np.argwhere(tinted(self.canvas(), color))
        if not len(pixels):
            return None
        corner, right, below = self._to_world([[0, 0], [1, 0], [0, 1]])
        steps = np.array([below - corner, right - corner])
        # A pixel's centre lies half a pixel from its corner.
        points = corner + (pixels + 0.5) @ steps
        return Tint(points, float(np.prod(np.linalg.norm(steps, axis=1))))

    def _to_world(self, points: list[list[float]]) -> npt.NDArray[np.float64]:
        return np.array(self._ask(_TO_WORLD, points))

    def _ask(self, expression: str, given: Any = None) -> Any:
        """Return what an expression about ``viewport``, the active one, and ``given`` yields."""
        return self.page.evaluate(
            f"""async given => {{
              let viewport;
              while (!(viewport = {_VIEWPORT})) await new Promise(requestAnimationFrame);
              return {expression};
            }}""",
            given,
        )


def open_study(browser: BrowserContext, url: str, study_uid: str) -> Viewer:
    """Open a study; returns once its first image is drawn."""
    viewer = Viewer(browser.new_page())
    viewer.page.set_default_timeout(1000 * PATIENCE_S)
    viewer.page.on("pageerror", lambda error: viewer.complaints.append(str(error)))
    viewer.page.goto(f"{url}/viewer?StudyInstanceUIDs={study_uid}")
    viewer.wait_for_image()
    return viewer


def boxes(located: Locator) -> list[Box]:
    """Return where each of them is on the screen."""
    found = located.evaluate_all(_BOXES)
    return [Box(one["left"], one["top"], one["right"], one["bottom"]) for one in found]


def tinted(pixels: npt.NDArray[np.uint8], color: Color) -> npt.NDArray[np.bool_]:
    """Return which pixels of a grey image have ``color`` blended over them, at any strength."""
    chroma, wanted = (
        each - each.min(axis=-1, keepdims=True)
        for each in (pixels.astype(float), np.array(color, float))
    )
    strength = np.linalg.norm(chroma, axis=-1)
    alike = chroma @ wanted / np.linalg.norm(wanted)
    result: npt.NDArray[np.bool_] = (strength > 30.0) & (alike > 0.985 * strength)
    return result
