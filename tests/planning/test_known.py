"""The shipped table and the cache: never wrong about a smaller job, kept by family, and never in the way."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from i2v.families import SPECS
from i2v.family_settings import FAMILY_SETTINGS
from i2v.plan import Plan, everywhere
from i2v.planning import known as module
from i2v.planning.code_key import code_key
from i2v.planning.known import Found, Known, Question
from i2v.planning.planner import Planner, candidates, known_source, stored
from i2v.request import GenerationRequest
from i2v.units import GIB
from tests.planning.support import card, job, made_up

PLAN = Plan(
    device="cuda", precision="float16", cfg="split", places=everywhere("staged"), chunk_frames=1, chunk_pixels=512
)


@pytest.fixture(scope="module")
def table() -> Known:
    return Known()


def held(known: Known, model: str, request, plan: Plan) -> dict[str, float]:
    found = known.whole(model, request, plan)
    return {phase.name: phase.activations_bytes / GIB for phase in found.phases}


@pytest.mark.parametrize(("side", "frames", "most_gib"), [(512, 16, 3.15), (768, 24, 4.05), (1024, 480, 5.7)])
def test_i2vgen_xl_holds_no_more_than_promised(table, side, frames, most_gib):
    """Lossless, fp16, the UNet resident, with workspace, before context and margin; decoding is never the peak."""
    planner = Planner(card(80), known_source(table, "i2vgen_xl"))
    prediction = planner.forced(job(side, side, frames), PLAN)
    without_context = {p.name: (p.peak_bytes - prediction.context_bytes) / GIB for p in prediction.phases}
    assert without_context["denoise"] <= most_gib
    assert max(without_context.values()) == without_context["denoise"]


def test_the_bound_of_a_larger_job_of_the_table_is_never_too_low(table):
    for question in table:
        slack = SPECS[question.model].bound_slack
        for other in table:
            if other.covers(question):
                small, large = table.get(question), table.get(other)
                for phase, larger in zip(small.phases, large.phases, strict=True):
                    assert phase.activations_bytes <= slack * larger.activations_bytes, (question, other)


def test_down_the_ladder_everything_of_the_table_gets_smaller_and_slower(table):
    planner = Planner(card(80), known_source(table, "i2vgen_xl"))
    for side, frames in ((512, 16), (768, 24), (1024, 32)):
        rungs = [planner.forced(job(side, side, frames), plan) for plan in candidates(PLAN, ("offload",))]
        peaks, times = [rung.peak.peak_bytes for rung in rungs], [rung.seconds for rung in rungs]
        assert peaks == sorted(peaks, reverse=True)
        assert times == sorted(times)


def test_what_stays_on_the_card_is_not_moved_again(table):
    """The decoder also encodes the picture: a resident plan moves it once, a staged one twice."""
    planner, request = Planner(card(80), known_source(table, "i2vgen_xl")), job()
    stays, leaves = (
        planner.forced(request, replace(PLAN, places=everywhere(offload))).phases[-1].seconds
        for offload in ("resident", "staged")
    )
    moved = table.whole("i2vgen_xl", request, PLAN).weights["vae"]
    assert leaves - stays == pytest.approx(moved / card(80).rates.link)


def test_an_unknown_size_is_bounded_by_the_next_larger_known(table):
    planner = Planner(card(12), known_source(table, "i2vgen_xl"))
    small, known = planner.plan(job(600, 500, 12), PLAN), planner.plan(job(768, 512, 16), PLAN)
    assert known.prediction.exact
    assert not small.prediction.exact
    assert small.prediction.peak.peak_bytes == known.prediction.peak.peak_bytes
    assert planner.plan(job(2048, 2048, 64), PLAN) is None


def test_what_was_found_is_kept_and_read_again(tmp_path):
    cache = tmp_path / "deep" / "plans.json"
    question, (found, _) = Question.of("nano:mine", job(), PLAN, "denoise"), made_up(job(), PLAN)
    Known(cache, tmp_path / "none").add({question: found})
    again = Known(cache, tmp_path / "none").get(question)
    assert again.weights == found.weights
    assert [p.activations_bytes for p in again.phases] == [p.activations_bytes for p in found.phases]
    assert again.phases[1].work(50).curve == pytest.approx(found.phases[1].work(50).curve, rel=1e-3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "\0\0\0",
        lambda text: "[]",
        lambda text: text.replace('"components"', '"compounds"'),
        lambda text: text.replace(code_key("nano"), "0" * 16),
        lambda text: text.replace('"keys"', '"source"'),
        lambda text: text.replace('"nano"', '"family of another day"'),
        lambda text: text.replace('{"nano": ', '{"nano": 1, "i2vgen_xl": '),
        lambda text: json.dumps({**json.loads(text), "keys": ["nano"]}),
        lambda text: json.dumps({**json.loads(text), "rows": 7}),
    ],
)
def test_a_damaged_cache_is_left_aside_and_made_anew(tmp_path, damage):
    cache = tmp_path / "plans.json"
    question, (found, _) = Question.of("nano:mine", job(), PLAN, "denoise"), made_up(job(), PLAN)
    Known(cache, tmp_path / "none").add({question: found})
    cache.write_text(damage(cache.read_text()))
    known = Known(cache, tmp_path / "none")
    assert known.get(question) is None
    known.add({question: found})
    assert Known(cache, tmp_path / "none").get(question) is not None


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    question, (found, _) = Question.of("nano:mine", job(), PLAN, "denoise"), made_up(job(), PLAN)
    known = Known(tmp_path / "file" / "plans.json", tmp_path / "none")
    known.add({question: found})
    assert known.get(question) is found


def test_both_halves_are_one_question_and_guidance_is_another():
    half = Question.of("nano:mine", job(), replace(PLAN, precision="bfloat16"), "denoise")
    assert half == Question.of("nano:mine", job(), PLAN, "denoise")
    assert half != Question.of("nano:mine", job(), replace(PLAN, precision="float32"), "denoise")
    assert half != Question.of("nano:mine", job(guidance=1), PLAN, "denoise")


def test_both_kinds_of_eight_bits_are_one_question_and_whole_weights_another():
    eight = Question.of("nano:mine", job(), stored(PLAN, "float8"), "denoise")
    assert eight == Question.of("nano:mine", job(), stored(PLAN, "int8"), "denoise")
    assert eight != Question.of("nano:mine", job(), PLAN, "denoise")
    assert not eight.covers(Question.of("nano:mine", job(), PLAN, "denoise"))


def test_the_table_knows_what_eight_bits_make_room_for(table):
    """I2VGen-XL on a card too small for its whole weights: at once, without a dry run."""
    planner = Planner(card(3.3), known_source(table, "i2vgen_xl"))
    base, fixed = Plan(device="cuda", precision="float16", places=everywhere("staged")), ("offload",)
    planned = planner.plan(job(), base, fixed)
    assert planned.prediction.verdict == "wont_fit"
    given_up = planner.give_up(planned, base, fixed, "balanced")
    assert given_up.asked is None
    assert given_up.prediction.verdict != "wont_fit"
    assert given_up.prediction.exact
    assert given_up.plan.weights != "full"


def row(number: int, model: str = "nano:mine") -> dict[Question, Found]:
    """Something that a dry run found: one row of many."""
    request = job(frames=number + 1)
    return {Question.of(model, request, PLAN, "denoise"): made_up(request, PLAN)[0]}


def test_a_family_whose_code_has_changed_loses_its_own_rows_alone(tmp_path, monkeypatch):
    cache = tmp_path / "plans.json"
    ours, own, theirs = row(1, "nano"), row(2, "nano:mine"), row(3, "i2vgen_xl")
    Known(cache, tmp_path / "none").add(ours | own | theirs)
    assert set(Known(cache, tmp_path / "none")) == set(ours | own | theirs)
    monkeypatch.setattr(
        module, "code_key", lambda family: f"{code_key(family)} now" if family == "nano" else code_key(family)
    )
    known = Known(cache, tmp_path / "none")
    assert set(known) == set(theirs)
    known.add(own)
    assert set(Known(cache, tmp_path / "none")) == set(theirs | own)
    assert set(json.loads(cache.read_text())["keys"]) == {"nano", "i2vgen_xl"}


def test_the_shipped_table_serves_whatever_code_and_libraries_are_there(monkeypatch):
    monkeypatch.setattr(module, "code_key", lambda family: pytest.fail("the shipped table needs no key"))
    assert {question.family for question in Known()} == set(SPECS)


def test_what_is_known_may_grow_while_it_is_looked_through(tmp_path, monkeypatch):
    """As another thread adds to it: `covers` and the loop's body do it here, in the midst of a walk."""
    known, covers, numbers = Known(None, tmp_path / "none"), Question.covers, iter(range(4, 60))

    def adds(one: Question, other: Question) -> bool:
        known.add(row(next(numbers)))
        return covers(one, other)

    known.add(row(1) | row(2) | row(3))
    monkeypatch.setattr(Question, "covers", adds)
    small, large = (next(iter(row(number))) for number in (0, 1))
    assert known.bound(small) == known.get(large)
    walked = [known.add(row(next(numbers))) for _ in known]
    assert len(walked) == 4
    assert len(list(known)) == 8


def test_threads_that_add_and_ask_at_once_lose_nothing(tmp_path):
    """Two that add, each through its own view of one file, and two that ask."""
    cache, rows, errors = tmp_path / "plans.json", [row(number) for number in range(40)], []
    views = [Known(cache, tmp_path / "none") for _ in range(2)]
    done = threading.Event()

    def attempt(run) -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)

    def add(view: Known, own: list[dict[Question, Found]]) -> None:
        for one in own:
            view.add(one)

    def ask(view: Known) -> None:
        smallest = next(iter(rows[0]))
        while not done.is_set():
            view.bound(smallest)

    adding = [threading.Thread(target=attempt, args=[lambda n=n: add(views[n], rows[n::2])]) for n in range(2)]
    asking = [threading.Thread(target=attempt, args=[lambda n=n: ask(views[n])]) for n in range(2)]
    for thread in (*asking, *adding):
        thread.start()
    for thread in adding:
        thread.join()
    done.set()
    for thread in asking:
        thread.join()
    assert not errors
    assert [len(list(view)) for view in views] == [20, 20]
    assert len(list(Known(cache, tmp_path / "none"))) == 40


def test_what_one_thread_adds_while_another_writes_the_file_is_in_it_too(tmp_path, monkeypatch):
    """The other one comes between reading the file and writing it, and has to wait."""
    cache, dump, others = tmp_path / "plans.json", module.dump_cache, []

    def interrupted(found) -> str:
        if not others:
            others.append(threading.Thread(target=Known(cache, tmp_path / "none").add, args=[row(2)]))
            others[0].start()
            others[0].join(0.2)  # long enough for one that does not wait
        return dump(found)

    monkeypatch.setattr(module, "dump_cache", interrupted)
    Known(cache, tmp_path / "none").add(row(1))
    others[0].join()
    assert set(Known(cache, tmp_path / "none")) == set(row(1) | row(2))


def test_what_only_some_families_take_asks_for_no_other_dry_run():
    """A flow shift, or how much is to move, changes what is computed with and not how much of it."""
    for family, spec in SPECS.items():
        task, size = spec.usual_task, (spec.defaults.width, spec.defaults.height, spec.defaults.num_frames)
        plain = GenerationRequest(family, "", *size, spec.defaults.fps, 8, 3.0, 0, task=task)
        for name in spec.own_settings:
            changed = replace(plain, **{name: FAMILY_SETTINGS[name].high})
            assert Question.all_of(family, changed, Plan()) == Question.all_of(family, plain, Plan())
