"""Sliding windows where the network is: gathered, judged in batches, blended and handed back.

The sums are made on the network's device, in float32, whatever its layers compute in. Windows
come in order of their first axis, so only the slab that they still reach lies on a graphics
card; what no later window reaches is divided and copied to the host while the card goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pipelines.runtimes.network import NetworkFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipelines.runtimes.window import Windows

LARGEST_BATCH = 32
"""Windows at once beyond which no card gets faster."""
_SHARE = 0.8
"""Of the free memory that one batch may take; libraries choose faster algorithms with the rest."""
_LARGEST_PINNED_BYTES = 2_000_000_000
_SAME = 1e-3
"""How far, of the largest number, an answer within a batch may be from the one alone. TF32 and
half precision round to about this; a network that mixes its windows is off by far more."""


class UnlikeWindow(NetworkFault):
    """The network's answer has not the shape of its window: it cannot be put where that lay."""


class SlidingNetwork:
    """A network of torch that slides; it remembers how many windows fit onto its device."""

    def __init__(
        self, network: Callable[[torch.Tensor], Any], on: torch.device, precision: str = "float32"
    ) -> None:
        """Take a network.

        Args:
            network: Takes (windows, channels, *size); answers with a tensor (windows, classes,
                *size), or a tuple that begins with it.
            on: Where the network is.
            precision: "float32", "bfloat16" or "float16": what its layers compute in on a
                graphics card (torch.autocast).
        """
        self._network, self._on, self._precision = network, on, precision
        self._fitting: dict[tuple[int, ...], int] = {}

    def blend(
        self, image: torch.Tensor, windows: Windows, batch: int, *, fill: bool = True
    ) -> torch.Tensor:
        """Return the weighted mean of the windows' answers at every voxel.

        Args:
            image: Shape (channels, *spatial), on the host or the device.
            windows: They cover the image.
            batch: Windows that the network gets at once; fewer where memory runs out.
            fill: On a graphics card, as many as fit instead, if that does not change answers.

        Returns:
            float32, shape (classes, *spatial), on the host.

        Raises:
            UnlikeWindow: The network does not answer as its windows lie.
            NetworkFault: It answers with NaN or infinity.
        """
        places = windows.places
        held = self._held(image)
        key = (image.shape[0], *windows.weight.shape)
        if fill and self._on.type == "cuda" and key not in self._fitting:
            self._fitting[key] = max(batch, self._tried(held, windows) or 1)
        most = self._fitting.get(key, batch)
        blended: Blended | None = None
        answers: torch.Tensor | None
        first = 0
        while first < len(places):
            group = places[first : first + most]
            try:
                answers = self._answers(held, group)
            except RuntimeError as error:
                if len(group) == 1 or not _is_out_of_memory(error):
                    raise
                most = self._fitting[key] = len(group) // 2
                answers = None
            if answers is None:
                self._forget()  # only here: the error held on to what did not fit
                continue
            if blended is None:
                shape = (answers.shape[1], *image.shape[1:])
                on = self._sums_on(shape, windows)
                blended = Blended(shape, windows, on, in_slabs=on.type != "cpu")
            for place, answer in zip(group, answers, strict=True):
                blended.add(place, answer)
            first += len(group)
        if blended is None:
            raise NetworkFault("There is nothing to look at.")
        return blended.finished()

    def _answers(self, image: torch.Tensor, places: Sequence[tuple[slice, ...]]) -> torch.Tensor:
        given = torch.stack([image[(slice(None), *place)] for place in places])
        if given.device.type != self._on.type:
            # From pinned memory the copy runs beside the network; torch keeps it until it ran.
            given = given.pin_memory().to(self._on, non_blocking=True)
        with torch.inference_mode(), autocast(self._on, self._precision):
            answer = self._network(given)
        answer = answer[0] if isinstance(answer, (tuple, list)) and answer else answer
        if not isinstance(answer, torch.Tensor):
            raise UnlikeWindow("The network answered with something else than tensors.")
        if answer.shape[:1] + answer.shape[2:] != given.shape[:1] + given.shape[2:]:
            raise UnlikeWindow(
                f"The network answered an array of {tuple(given.shape)} with one of "
                f"{tuple(answer.shape)}; a segmentation has (batch, labels) and the same "
                "further axes."
            )
        return answer.float()

    def _held(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image on the device, or on the host where it would fill the device."""
        image = image.to(torch.float32)
        if self._on.type == "cuda" and image.nbytes > torch.cuda.mem_get_info(self._on)[0] // 4:
            return image.cpu()
        return image.to(self._on)

    def _sums_on(self, shape: Sequence[int], windows: Windows) -> torch.device:
        """Return where sums are made: on the host if a slab would crowd the network out."""
        if self._on.type == "cuda":
            free = torch.cuda.mem_get_info(self._on)[0]
            if _slab_bytes(shape, windows) > free // 2:
                return torch.device("cpu")
        return self._on

    def _tried(self, image: torch.Tensor, windows: Windows) -> int | None:
        """Return how many windows at once a graphics card takes, by what two take more than one.

        A power of two, so that studies of one day get the same. None where a window is answered
        otherwise in company: a traced network may have the number of its example built in.
        """
        places = windows.places
        if len(places) < 2:
            return None
        # As unlike as windows of one study are: a corner may be air, the middle hardly.
        corner, middle = places[0], places[len(places) // 2]
        try:
            alone, one_bytes = self._peak(image, [corner])
            other, _ = self._peak(image, [middle])
            both, two_bytes = self._peak(image, [corner, middle])
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            return None
        if not answers_alike(torch.cat([alone, other]), both):
            return None
        self._forget()
        each = max(two_bytes - one_bytes, 1)
        free = torch.cuda.mem_get_info(self._on)[0] * _SHARE - one_bytes
        slab = _slab_bytes((both.shape[1], *image.shape[1:]), windows)
        free -= slab if slab < free / 2 else 0
        fitting = 1 + max(int(free // each), 0)
        return int(2 ** (min(fitting, LARGEST_BATCH, len(places)).bit_length() - 1))

    def _peak(
        self, image: torch.Tensor, places: Sequence[tuple[slice, ...]]
    ) -> tuple[torch.Tensor, int]:
        """Return the answers, and the bytes that they took at most."""
        before = torch.cuda.memory_allocated(self._on)
        torch.cuda.reset_peak_memory_stats(self._on)
        answers = self._answers(image, places).cpu()
        return answers, torch.cuda.max_memory_allocated(self._on) - before

    def _forget(self) -> None:
        """Give back memory that torch holds for later."""
        if self._on.type == "cuda":
            torch.cuda.empty_cache()


class Blended:
    """Weighted sums of answers: of the slab that windows still reach, the rest is done."""

    def __init__(
        self, shape: tuple[int, ...], windows: Windows, on: torch.device, *, in_slabs: bool
    ) -> None:
        """Begin with nothing.

        Args:
            shape: Of the result: (classes, *spatial).
            windows: They will be added in this order.
            on: Where answers are, and sums are made.
            in_slabs: Hold no more of the sums there than windows still reach.
        """
        size_bytes = 4 * torch.Size(shape).numel()
        pinned = on.type == "cuda" and size_bytes <= _LARGEST_PINNED_BYTES
        self._done = torch.empty(shape, dtype=torch.float32, pin_memory=pinned)
        self._in_slabs, self._on = in_slabs, on
        depth = windows.weight.shape[0] if in_slabs else shape[1]
        if in_slabs:
            self._sums = torch.zeros((shape[0], depth, *shape[2:]), device=on)
        else:
            self._sums = self._done.zero_()
        self._counts = torch.zeros((depth, *shape[2:]), device=on)
        self._weight = torch.from_numpy(windows.weight).to(on)
        self._is_even = bool((windows.weight == 1.0).all())
        self._finite = torch.ones((), dtype=torch.bool, device=on)
        self._from = 0

    def add(self, place: tuple[slice, ...], answer: torch.Tensor) -> None:
        """Add one window's answer."""
        answer = answer.to(self._on)
        rows = place[0]
        if self._in_slabs and rows.start > self._from:
            self._move_to(rows.start)
        here = (slice(rows.start - self._from, rows.stop - self._from), *place[1:])
        sums = self._sums[(slice(None), *here)]
        # Rounded twice, as MONAI and numpy do it: addcmul would round once, to other last bits.
        sums += answer if self._is_even else answer * self._weight
        self._counts[here] += self._weight

    def finished(self) -> torch.Tensor:
        """Return the mean at every voxel."""
        self._hand_over(self._sums.shape[1])
        if self._on.type == "cuda":
            torch.cuda.synchronize(self._on)
        if not bool(self._finite):
            raise NetworkFault("The network gave a segmentation with NaN or infinity in it.")
        return self._done

    def _move_to(self, row: int) -> None:
        rows = row - self._from
        self._hand_over(rows)
        for held in (self._sums, self._counts[None]):
            kept = held[:, rows:].clone()
            held[:, : kept.shape[1]] = kept
            held[:, kept.shape[1] :] = 0.0
        self._from = row

    def _hand_over(self, rows: int) -> None:
        means = self._sums[:, :rows]
        means /= self._counts[:rows]
        self._finite &= torch.isfinite(means).all()
        if self._in_slabs:
            # Class by class: only what is contiguous at both ends is copied without waiting. The
            # slab is written on by the same stream, hence after these copies.
            past = self._from + rows
            for mean, done in zip(means, self._done[:, self._from : past], strict=True):
                done.copy_(mean, non_blocking=True)


def autocast(on: torch.device | str, precision: str) -> torch.autocast:
    """Return the context in which a network's layers compute in what its manifest states."""
    half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    kind = torch.device(on).type
    return torch.autocast(kind, half, enabled=half is not None and kind == "cuda")


def answers_alike(alone: torch.Tensor, together: torch.Tensor) -> bool:
    """Whether windows were answered in one batch as they were one by one."""
    if alone.shape != together.shape:
        return False
    off = float((alone - together).abs().max())
    return off <= _SAME * max(float(alone.abs().max()), 1.0)


def _slab_bytes(shape: Sequence[int], windows: Windows) -> int:
    """Return what sums and counts of a slab take, and the copy made when it moves on."""
    planes = (shape[0] + 1) * windows.weight.shape[0]
    return int(2 * 4 * planes * torch.Size(shape[2:]).numel())


def _is_out_of_memory(error: RuntimeError) -> bool:
    told = str(error).lower()
    return "out of memory" in told or "not enough memory" in told
