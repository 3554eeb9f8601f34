"""From a dry run to a prediction: what each phase holds on a machine, how long it takes, and what the job needs beside
the card."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import hypot

from i2v.finishing.cost import finishing_cost
from i2v.models.weight_files import Reading
from i2v.plan import PhasePrediction, Placement, Plan, Prediction, everywhere
from i2v.planning.known import Found, PhaseRun, engine_phase
from i2v.planning.ledger import NO_CORRECTION, Correction
from i2v.planning.machine import HOST_BASELINE_BYTES, Machine
from i2v.planning.pipeline import held_bytes, read_share, stays, waiting_seconds
from i2v.planning.work import NO_WORK, Work
from i2v.request import GenerationRequest

MARGIN_SHARE = 0.04
# A finished video at the writer's quality takes 0.06 bytes a pixel for nano's clips; preview, latents and logs beside.
VIDEO_BYTES_PER_PIXEL = 0.2
JOB_FLOOR_BYTES = 8 * 2**20
# Beside what a phase computes with, weights may stand on the card. Each tensor from 10 MiB on has a segment of its own
# there, rounded up to 2 MiB: 1 to 10 % more for the networks of I2VGen-XL. Expandable segments have no such gaps.
SEGMENTS_SHARE = 0.1
PRECISION_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def predict(
    found: Found,
    request: GenerationRequest,
    plan: Plan,
    machine: Machine,
    *,
    exact: bool = True,
    download_bytes: int = 0,
    correction: Correction = NO_CORRECTION,
    mapped: frozenset[str] = frozenset(),
    calls: Mapping[str, int] | None = None,
    sections: int = 1,
    readings: Mapping[str, Reading] | None = None,
) -> Prediction:
    """What `request` under `plan` will hold and take on `machine`, from its dry run. The weights of `mapped` components
    lie in files in the precision that is wanted, and take no RAM that has to be free. `calls`: of the network in all of
    each part of denoising; one in each step, as the dry run has it, where it says nothing of one. `sections`: how
    often all steps are made. `readings`: what loading reads, by component; nothing where it says nothing of one."""
    calls = calls or {}
    if machine.device == "cpu":
        plan = _on_processor(plan, found, mapped)
    steps = request.num_inference_steps
    context = HOST_BASELINE_BYTES["cpu"] if machine.device == "cpu" else machine.context_bytes
    left_over = [_left_over(found.phases[:index], plan) for index in range(len(found.phases))]

    def foretold(read_again: Mapping[str, int]) -> tuple[PhasePrediction, ...]:
        return tuple(
            _phase(
                run, found, plan, machine, sections * calls.get(run.name, steps), context, left, correction, read_again
            )
            for run, left in zip(found.phases, left_over, strict=True)
        )

    # Where a card is simulated its peaks are in RAM; where it is real they need not be known to know what RAM holds.
    phases = () if machine.device == "cuda" else foretold({})
    ram_bytes = _ram_bytes(found, plan, machine, [phase.peak_bytes for phase in phases], mapped)
    read_again = _read_again(found, plan, machine, mapped, machine.ram_free_bytes - ram_bytes)
    if read_again or not phases:
        phases = foretold(read_again)
    width, height = request.video_size
    video = width * height * request.video_frames * VIDEO_BYTES_PER_PIXEL
    finishing = finishing_cost(request)
    every_pass = sum(size for name, size in read_again.items() if _passes(found, name))
    load_bytes = _load_bytes(found, read_again, readings or {})
    return Prediction(
        phases=phases,
        context_bytes=context,
        margin_bytes=margin(machine),
        budget_bytes=machine.budget_bytes,
        ram_peak_bytes=ram_bytes + finishing.size_bytes,
        ram_free_bytes=machine.ram_free_bytes,
        disk_bytes=JOB_FLOOR_BYTES + int(video) + download_bytes,
        disk_free_bytes=machine.disk_free_bytes,
        exact=exact,
        finish_seconds=finishing.seconds,
        finish_bytes=finishing.size_bytes,
        read_again_bytes=every_pass,
        read_again_seconds=every_pass / machine.disk_read_rate,
        load_bytes=load_bytes,
        load_seconds=load_bytes / machine.disk_read_rate,
        disk_measured=machine.disk_measured,
    )


def _on_processor(plan: Plan, found: Found, mapped: frozenset[str]) -> Plan:
    """`plan` as a processor computes it. It has nowhere to stream weights to: those that lie in files as they are it
    computes with as the system reads them, and all others stand in RAM. Eight bits are always a copy."""
    stored = _denoiser(found) if plan.weights != "full" else frozenset()
    names = sorted((mapped - stored) & found.blocks.keys())
    streamed = (Placement(name, "streamed") for name in names if plan.place(name).residency == "streamed")
    return replace(plan, places=(*everywhere("resident"), *streamed))


def _load_bytes(found: Found, read_again: Mapping[str, int], readings: Mapping[str, Reading]) -> int:
    """What loading reads from the disk: it looks at all values, but at those of files that RAM does not hold only where
    nobody knows that they are as published."""
    needed = {name for run in found.phases for name in run.components}
    return sum(
        reading.cold_bytes
        for name, reading in readings.items()
        if name in needed and not (name in read_again and reading.as_published)
    )


def _read_again(
    found: Found, plan: Plan, machine: Machine, mapped: frozenset[str], room_bytes: int
) -> Mapping[str, int]:
    """Of the networks that stream from mapped files, those for which RAM has too little room: how many bytes of each
    come from the disk in every pass. `room_bytes`: of RAM, beside all else. Beside a card what is passed once counts as
    read when it is loaded."""
    counted = (name for name in mapped if machine.device == "cpu" or _passes(found, name))
    streamed = {name: _streamed_bytes(name, found, plan) for name in counted}
    locks = machine.device == "cuda"
    read = {name: int(size * read_share(size, room_bytes, locks=locks)) for name, size in streamed.items()}
    return {name: size for name, size in read.items() if size}


def _streamed_bytes(component: str, found: Found, plan: Plan) -> int:
    """What of its blocks comes anew in every pass."""
    place, blocks = plan.place(component), found.blocks.get(component)
    if place.residency != "streamed" or blocks is None:
        return 0
    return sum(blocks.sizes) - sum(blocks.sizes[number] for number in stays(blocks.sizes, place.kept_bytes))


def _passes(found: Found, name: str) -> bool:
    """Whether a step goes through the network, and thus a run many times."""
    return any(name in run.components and run.each != NO_WORK for run in found.phases)


def _ram_bytes(found: Found, plan: Plan, machine: Machine, peaks_bytes: Sequence[int], mapped: frozenset[str]) -> int:
    """The most RAM that has to be free. `peaks_bytes`: what each phase holds where it computes."""
    baseline = HOST_BASELINE_BYTES[machine.device]

    def loaded(run: PhaseRun, but: Collection[str]) -> int:
        """The weights that are in RAM in this phase, but for some."""
        names = found.weights if plan.keep_loaded else run.components
        return sum(found.weights[name] if name not in but else found.added.get(name, 0) for name in names)

    match machine.device:
        case "cpu":
            at_work = max(peaks_bytes)
        case "simulated":
            phases = zip(found.phases, peaks_bytes, strict=True)
            at_work = baseline + max(loaded(run, mapped) + peak for run, peak in phases)
        case _:
            at_work = baseline + max(loaded(run, mapped) for run in found.phases)
    if plan.weights == "full":
        return at_work
    # They are loaded whole and stored layer by layer, in a byte each. Until then a copy has the precision's bytes.
    denoising = found.denoising
    denoiser = _denoiser(found)
    copied = PRECISION_BYTES[plan.precision]

    def while_stored(run: PhaseRun) -> int:
        stored = denoiser if plan.keep_loaded else run.components
        files = {name: found.weights[name] - found.added.get(name, 0) for name in stored}
        own = sum(size * (1 if name in mapped else copied) for name, size in files.items())
        return own + loaded(run, denoiser | mapped)

    return max(at_work, baseline + max(while_stored(run) for run in denoising))


def _denoiser(found: Found) -> frozenset[str]:
    """The components that denoise."""
    denoising = found.denoising
    return frozenset(name for run in denoising for name in run.components)


def margin(machine: Machine) -> int:
    """What a plan that "fits" leaves free."""
    return max(machine.margin_floor_bytes, int(machine.budget_bytes * MARGIN_SHARE))


def _phase(
    run: PhaseRun,
    found: Found,
    plan: Plan,
    machine: Machine,
    calls: int,
    context_bytes: int,
    left_over: frozenset[str],
    correction: Correction,
    read_again: Mapping[str, int],
) -> PhasePrediction:
    in_ram = machine.device == "cpu" and plan.keep_loaded
    # What lies in files leaves RAM when another needs the room.
    stay = [name for name in found.weights if plan.stays(name) or (in_ram and plan.place(name).residency != "streamed")]
    beside = sum(found.weights[name] for name in stay if name not in run.components)
    weights = beside + sum(on_card_bytes(name, found, plan, machine) for name in run.components)
    workspace = machine.workspace_bytes + correction.extra_bytes(engine_phase(run.name))
    workspace += _beyond_tensors(run, machine, beside)
    peak = weights + run.activations_bytes + workspace + context_bytes
    not_moved = sum(found.weights[name] for name in run.components if name in left_over)
    took = seconds(run.work(calls), plan, machine, not_moved)
    took += sum(
        _streaming_seconds(name, run, found, plan, machine, calls, read_bytes=read_again.get(name, 0))
        for name in run.components
    )
    took *= machine.slowdown
    took *= correction.time_factor(engine_phase(run.name))
    return PhasePrediction(run.name, weights, run.activations_bytes, workspace, peak, took)


def _beyond_tensors(run: PhaseRun, machine: Machine, beside_bytes: int) -> int:
    """What torch takes for itself. A simulated card counts tensors and nothing else.

    Convolutions have copies in a layout of their own: with oneDNN on a processor, with cuDNN on a card."""
    if machine.device == "simulated":
        return 0
    if machine.device == "cpu":
        return run.copies_bytes
    if machine.expandable_segments:
        return run.cudnn_bytes + run.unused_bytes
    return run.cudnn_bytes + run.unused_segments_bytes + int(beside_bytes * SEGMENTS_SHARE)


def _left_over(earlier: Sequence[PhaseRun], plan: Plan) -> frozenset[str]:
    """The components that stand on the card from earlier phases."""
    placed = {name for run in earlier for name in run.components}
    return frozenset(filter(plan.stays, placed))


def on_card_bytes(component: str, found: Found, plan: Plan, machine: Machine) -> int:
    """What the weights of `component` hold on the card while it computes."""
    place, blocks = plan.place(component), found.blocks.get(component)
    if place.residency != "streamed" or blocks is None:
        return found.weights[component]
    # A processor does well with the blocks that are in use, and what LoRAs add lies in no file of theirs.
    added = found.added.get(component, 0) if machine.device == "cpu" else 0
    return blocks.outside + held_bytes(blocks.sizes, place.kept_bytes, place.slots) + added


def _streaming_seconds(
    component: str, run: PhaseRun, found: Found, plan: Plan, machine: Machine, calls: int, *, read_bytes: int
) -> float:
    """How long a phase waits for blocks that have not come yet. That the first of them come while others are computed
    is left out: then more blocks that stay never count as slower."""
    place, blocks, passes = plan.place(component), found.blocks.get(component), run.passes.get(component)
    if place.residency != "streamed" or blocks is None or passes is None:
        return 0.0
    times, work = (1, run.once) if run.each == NO_WORK else (calls, run.each)
    if machine.device == "cpu":  # it copies nothing, and waits for every page
        return times * passes.passes * read_bytes / machine.disk_read_rate
    computing = seconds(replace(work, transfer_bytes=0), plan, machine) / passes.passes
    link = _stream_link(sum(blocks.sizes), plan, machine)
    # The system reads a mapped file some way ahead of what is copied from it: that takes the longer of both.
    reads = read_bytes / max(1, _streamed_bytes(component, found, plan))
    beyond = max(0.0, 1 / machine.disk_read_rate - 1 / link)
    copying = [size / link + size * reads * beyond for size in blocks.sizes]
    kept = stays(blocks.sizes, place.kept_bytes)
    if machine.device == "simulated":  # the processor computes and copies, one after the other
        waiting = sum(took for number, took in enumerate(copying) if number not in kept)
    else:
        waiting = waiting_seconds(passes.spread(computing)[:-1], copying, kept, place.slots)
    return times * passes.passes * waiting


def _stream_link(blocks_bytes: int, plan: Plan, machine: Machine) -> float:
    """Bytes/s at which blocks come: from page-locked memory where they stay in RAM and about half of it is enough for
    them; see `memory.locked`."""
    locked = plan.keep_loaded and blocks_bytes <= machine.ram_free_bytes / 2
    return max(machine.rates.link_locked, machine.rates.link) if locked else machine.rates.link


def seconds(work: Work, plan: Plan, machine: Machine, not_moved_bytes: int = 0) -> float:
    """Computing, launching, and moving all but `not_moved_bytes` of what the dry run moved.

    A card computes while the host launches what comes next, so the longer of both counts most: the root of the sum of
    their squares follows I2VGen-XL on an H100 from 1,865 launches in a step to 95,970. A convolution takes longer than
    a matrix product of as many operations, and in float32 longer than in half precision."""
    rates = machine.rates
    rate = rates.flops(plan.precision)
    wide = work.wide_convolution_flops
    more = (rates.convolution_times(plan.precision) - 1) * (work.convolution_flops - wide)
    more += (rates.wide_convolution_times(plan.precision) - 1) * wide
    computing = (work.at_ridge(rate / rates.bandwidth) + more) / rate
    launching = work.launches * rates.launch_seconds
    if machine.device == "cpu":
        return computing + launching
    return hypot(computing, launching) + (work.transfer_bytes - not_moved_bytes) / rates.link
