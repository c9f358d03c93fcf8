"""What a site's classifier rests on, by the gradients of its network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.explain.gradients import integrated_gradients
from pipelines.runtimes.prepare import prepare
from pipelines.runtimes.torch_files import TorchNetwork

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.contract import Code, Study
    from pipelines.runtimes.site_network import SiteNetwork


def attribution(
    network: SiteNetwork, study: Study, finding: Code | None
) -> npt.NDArray[np.float32] | None:
    """Return what each voxel adds to a classifier's number for a label, shape of the study.

    The sum over the channels of what the network is given. Of slices that are judged one by one
    and of which the highest counts, only that one has values.

    Args:
        network: Of a torch runtime, and a classifier.
        study: What it judged.
        finding: Which label, by its property.

    Returns:
        None where there are no gradients: another runtime or task, or another finding.
    """
    manifest = network.manifest
    label = next((one for one in network.labels if one.property == finding), None)
    if manifest.task != "classification" or label is None:
        return None
    opened = network.network()
    if not isinstance(opened, TorchNetwork):
        return None
    prepared = prepare((study,), manifest.input)
    volume = manifest.input.view == "volume"
    array = prepared.array[np.newaxis] if volume else np.moveaxis(prepared.array, 1, 0)
    added = np.zeros((len(array), *array.shape[2:]), np.float32)
    highest = manifest.output.pool == "max" and not volume
    decisive = next(one.image for one in network.scores(study) if one.label == label)
    for at in [decisive] if highest else range(len(array)):
        given = np.ascontiguousarray(array[at : at + 1])
        each = integrated_gradients(
            lambda tensor: opened.answer(tensor).reshape(-1)[label.index],
            given,
            device=str(opened.device),
        )
        added[at] = each[0].sum(axis=0)
    return prepared.to_source(added[0] if volume else added)
