"""What of a MONAI bundle's config may run.

A bundle's config is a program: ``"$import os"``, ``"$os.system(...)"``, ``{"_target_":
"subprocess.run"}`` and Python in its ``scripts`` folder are all legal in it, and
``monai.bundle`` evaluates what it is given. So it is given only the sections that a prediction
needs, and of these only what is on a list: MONAI's own classes by name, references, and
expressions of a small grammar. Everything else is refused with its place in the config.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, Final

from pipelines.runtimes.monai_network import NETWORKS
from pipelines.runtimes.network import WeightsRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TRANSFORMS = {
    "Activations", "AdjustContrast", "AsDiscrete", "BorderPad", "CastToType", "CenterSpatialCrop",
    "ClipIntensityPercentiles", "Compose", "ConcatItems", "CopyItems", "CropForeground",
    "DeleteItems", "DivisiblePad", "EnsureChannelFirst", "EnsureType", "GaussianSmooth",
    "HistogramNormalize", "Identity", "Invert", "MedianSmooth", "NormalizeIntensity",
    "Orientation", "RepeatChannel", "Resize", "ResizeWithPadOrCrop", "ScaleIntensity",
    "ScaleIntensityRange", "ScaleIntensityRangePercentiles", "SelectItems", "ShiftIntensity",
    "Spacing", "SpatialPad", "SqueezeDim", "ThresholdIntensity", "ToDevice", "ToTensor",
    "Transpose", "Zoom",
}  # fmt: skip
_PLACES: Final = {
    **{name + kind: "monai.transforms" for name in _TRANSFORMS for kind in ("", "d", "D", "Dict")},
    **dict.fromkeys(NETWORKS, "monai.networks.nets"),
    **dict.fromkeys(
        ("SimpleInferer", "SlidingWindowInferer", "SlidingWindowInfererAdapt", "SliceInferer"),
        "monai.inferers",
    ),
    "RetinaNet": "monai.apps.detection.networks.retinanet_network",
    "RetinaNetDetector": "monai.apps.detection.networks.retinanet_detector",
    "AnchorGenerator": "monai.apps.detection.utils.anchor_utils",
    "AnchorGeneratorWithAnchorShape": "monai.apps.detection.utils.anchor_utils",
}
"""Class -> module it is taken from, whatever dotted path a config writes before it."""

_LEFT_OUT: Final = re.compile(r"(LoadImage|SaveImage)(d|D|Dict)?")
"""Reading and writing files is ours: these transforms are left out, not refused."""
_OBSOLETE: Final = ("meta_key_postfix", "meta_keys")
"""Arguments that MONAI dropped when images began to carry their place themselves (1.0)."""
_FUNCTIONS: Final = re.compile(
    r"monai\.networks\.nets(\.resnet)?\.resnet(10|18|34|50|101|152|200)"
    r"|monai\.apps\.detection\.networks\.retinanet_network\.resnet_fpn_feature_extractor"
)
_CONSTANTS: Final = re.compile(
    r"(torch|np|numpy)\.(float|float16|float32|float64|half|bool|uint8|int8|int16|int32|int64|long)"
)
_METHODS: Final = {
    "to",
    "set_target_keys",
    "set_box_selector_parameters",
    "set_sliding_window_inferer",
}
_REFERENCE: Final = re.compile(r"@(\w+(?:(?:::|#)\w+)*)")
_OWN_KEYS: Final = {"_target_", "_disabled_", "_desc_"}
_DEEPEST = 40


def admitted(
    config: Mapping[str, Any], wanted: Iterable[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the sections of a config that are needed and may run.

    Args:
        config: As read from the file.
        wanted: Sections that will be asked for.
        given: Sections that take the place of the config's own, such as ``device``.

    Raises:
        WeightsRefused: A needed section is missing or holds what is not on the list.
    """
    sections: dict[str, Any] = dict(given)
    needed = [name for name in wanted if name not in given]
    while needed:
        name = needed.pop()
        if name in sections:
            continue
        if name not in config:
            raise WeightsRefused(f"The bundle's config has no section {name!r}.")
        references: set[str] = set()
        sections[name] = _admit(config[name], name, references)
        needed += sorted(references - sections.keys())
    return sections


def _admit(value: Any, place: str, references: set[str]) -> Any:
    if place.count("::") > _DEEPEST:
        raise WeightsRefused(f"The bundle's config is nested too deeply at {place}.")
    if isinstance(value, dict):
        return _admit_component(value, place, references)
    if isinstance(value, list):
        kept = [(at, one) for at, one in enumerate(value) if not _is_left_out(one)]
        return [_admit(one, f"{place}::{at}", references) for at, one in kept]
    if isinstance(value, str):
        return _admit_text(value, place, references)
    return value


def _admit_component(value: dict[str, Any], place: str, references: set[str]) -> dict[str, Any]:
    for key, one in value.items():
        if key.startswith("_") and key not in _OWN_KEYS:
            raise WeightsRefused(f"{place}: {key} is not run from a bundle's config.")
        if "pretrained" in key and one not in (False, None):
            raise WeightsRefused(f"{place}::{key}: weights come from the bundle's own file alone.")
    name = _class_name(value)
    dropped = ("_target_", "_desc_", *(_OBSOLETE if name.startswith("EnsureChannelFirst") else ()))
    admitted_ = {
        key: _admit(one, f"{place}::{key}", references)
        for key, one in value.items()
        if key not in dropped
    }
    if "_target_" in value:
        admitted_["_target_"] = _target(value["_target_"], place)
    return admitted_


def _target(target: Any, place: str) -> str:
    path, _, name = str(target).rpartition(".")
    module = _PLACES.get(name)
    if module is None or (path and not re.fullmatch(r"monai(\.\w+)*", path)):
        raise WeightsRefused(
            f'{place}: "_target_": {target!r} is not one of the MONAI networks, transforms and '
            "inferers that run from a bundle. Python in a bundle's scripts is never run."
        )
    return f"{module}.{name}"


def _admit_text(value: str, place: str, references: set[str]) -> str:
    if value.startswith("%"):
        raise WeightsRefused(f"{place}: {value!r} takes a part of another file; write it out.")
    if value.startswith("@"):
        if not _REFERENCE.fullmatch(value):
            raise WeightsRefused(f"{place}: {value!r} is no plain reference.")
        references.add(_root(value[1:]))
    elif value.startswith("$"):
        _check_expression(value, place, references)
    return value


def _check_expression(value: str, place: str, references: set[str]) -> None:
    """Refuse an expression unless it is made of references, numbers, and calls on the list."""
    names: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        names[f"reference{len(names)}"] = match[1]
        return f"reference{len(names) - 1}"

    try:
        tree = ast.parse(_REFERENCE.sub(stand_in, value[1:]).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None or "reference" in value or not _is_plain(tree.body, names):
        raise WeightsRefused(
            f"{place}: the expression {value[:80]!r} is not run. Write the value itself, or take "
            "the section out; docs/models.md lists what a bundle's config may say."
        )
    references |= {_root(name) for name in names.values()}


def _is_plain(node: ast.expr, names: Mapping[str, str]) -> bool:
    match node:
        case ast.Constant():
            plain = True
        case ast.Name():
            plain = node.id in names
        case ast.List() | ast.Tuple():
            plain = all(_is_plain(one, names) for one in node.elts)
        case ast.UnaryOp():
            plain = _is_plain(node.operand, names)
        case ast.Attribute():
            plain = bool(_CONSTANTS.fullmatch(ast.unparse(node)))
        case ast.Call():
            plain = _is_plain_call(node, names)
        case _:
            plain = False
    return plain


def _is_plain_call(node: ast.Call, names: Mapping[str, str]) -> bool:
    keywords = [keyword.arg for keyword in node.keywords]
    if None in keywords or "pretrained" in keywords:
        return False
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    return _is_callable(node.func, names) and all(_is_plain(one, names) for one in given)


def _is_callable(node: ast.expr, names: Mapping[str, str]) -> bool:
    if not isinstance(node, ast.Attribute):
        return False
    if isinstance(node.value, ast.Name) and node.value.id in names:
        return node.attr in _METHODS
    return bool(_FUNCTIONS.fullmatch(ast.unparse(node)))


def _is_left_out(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return bool(_LEFT_OUT.fullmatch(_class_name(value)))


def _class_name(component: Mapping[str, Any]) -> str:
    return str(component.get("_target_", "")).rpartition(".")[2]


def _root(reference: str) -> str:
    return re.split(r"::|#", reference)[0]
