"""Assignments are explained, and decided again from the log, whatever changed in the experiment since."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from redis.asyncio import Redis
from samplit.admin.v1 import experiment_pb2
from samplit.admin.v1 import experiment_service_pb2 as admin
from samplit.allocation.v1 import allocation_service_pb2 as pb

from storage.encryption import Secrets
from storage.postgres.pool import connect
from storage.publication import Publication
from storage.redis import publications
from storage.redis.client import Client
from tests.conftest import Clock
from tests.support.clusters import clustered, crowd, member
from tests.support.segmentation import (
    DISABLED,
    MANUAL,
    allocate,
    convert,
    drained,
    load_on,
    request,
    serving,
    update,
)
from tests.support.service import Service
from tests.support.status import refused

BY_SOURCE = experiment_pb2.SegmentationConfig(mode=MANUAL, segment_by=["source"], min_samples_per_segment=40)
ADAPTIVE, BASELINE, HOLDOUT = (
    admin.AssignmentGroup.Value(f"ASSIGNMENT_GROUP_{name}") for name in ("ADAPTIVE", "BASELINE", "HOLDOUT")
)
BEST = {"instagram": "a", "google": "b", "facebook": "control"}
A_EVERYWHERE = dict.fromkeys(BEST, "a")


class Crowd:
    """Users who arrive in rounds. Each round is counted and published before the next."""

    def __init__(self, service: Service, clock: Clock, best: Mapping[str, str] = BEST) -> None:
        """`best` names the variant that converts best, by source."""
        self.service = service
        self.clock = clock
        self.best = best
        self.answers: dict[str, pb.AllocateUserResponse] = {}
        self.conversions = 0

    async def come(self, rounds: int, users: int = 50) -> None:
        """Send rounds of users. Of those with the best variant three in four convert, of the others one in five."""
        for _ in range(rounds):
            requests = [request(n) for n in range(len(self.answers), len(self.answers) + users)]
            answers = await allocate(self.service, requests)
            assert {answer.assignment_state for answer in answers} == {pb.ASSIGNMENT_STATE_NEW}
            winners = [
                answer
                for n, (asked, answer) in enumerate(zip(requests, answers, strict=True))
                if (n % 4 if answer.variant_id == self.best[asked.web.utm_source] else n % 5 == 0)
            ]
            await convert(self.service, winners)
            self.answers |= zip((asked.user_identifier for asked in requests), answers, strict=True)
            self.conversions += len(winners)
            await self.service.learned("cta", len(self.answers), self.conversions)
            self.clock.advance(hours=7)


async def explained(service: Service, user: str) -> Any:
    return await service.call("ExplainAssignment", experiment_id="cta", user_identifier=user)


async def explanations(service: Service, users: Iterable[str]) -> list[Any]:
    return [await explained(service, user) for user in users]


async def all_agree(service: Service, answers: dict[str, pb.AllocateUserResponse]) -> list[Any]:
    """Check that each explanation repeats the answer, and that its replay agrees. Return the explanations."""
    found = await explanations(service, answers)
    for each, answer in zip(found, answers.values(), strict=True):
        assert (each.replay.variant_id, each.replay.agrees, each.replay.problem) == (answer.variant_id, True, "")
        assert each.replay.propensity == pytest.approx(each.propensities.drawn, abs=1e-9)
        assert (each.assignment_id, each.variant.variant_id) == (answer.assignment_id, answer.variant_id)
        assert (each.reason, each.assigned_at) == (answer.reason, answer.assigned_at)
        assert (each.answered_segment.segment_key, each.answered_segment.segment_display_name) == (
            answer.segment_key,
            answer.segment_display_name,
        )
    return found


async def change(service: Service, **fields: Any) -> None:
    message = experiment_pb2.Experiment(experiment_id="cta", **fields)
    await service.call("UpdateExperiment", experiment=message, update_mask=FieldMask(paths=list(fields)))


async def test_what_is_on_record_is_told(service: Service, worker: None, clock: Clock) -> None:
    await service.running(segmentation=BY_SOURCE, baseline_share=0.0)
    asked = request(0)
    asked.attributes["plan"] = "Pro"
    answer = await service.allocation.AllocateUser(asked, metadata=service.metadata)
    came = clock()
    clock.advance(hours=2)
    await service.learned("cta", 1)
    found = await explained(service, "u0")
    assert found.assignment_id == answer.assignment_id
    assert found.variant == admin.AssignedVariant(variant_id=answer.variant_id, name=answer.variant.name)
    assert found.answered_segment == found.credited_segment
    assert found.answered_segment == admin.SegmentName(segment_key="source:instagram", segment_display_name="Instagram")
    assert (found.reason, found.group) == (pb.REASON_FALLBACK, ADAPTIVE)
    assert (found.segmentation_version, found.posterior_version, found.config_revision) == (1, 0, 2)
    assert found.assigned_at.ToDatetime(came.tzinfo) == came
    assert (found.context["source"], found.context["device"], found.context["plan"]) == ("instagram", "mobile", "pro")
    chances = found.propensities
    for chance in (chances.drawn, chances.marginal, chances.q_segment, chances.q_global):
        assert chance == pytest.approx(1 / 3, abs=1e-6)
    assert not found.converted
    assert not found.HasField("converted_at")
    await convert(service, [answer])
    await service.learned("cta", 1, 1)
    found = await explained(service, "u0")
    assert found.converted
    assert found.converted_at.ToDatetime(came.tzinfo) == clock()


async def test_every_decision_is_made_again(service: Service, worker: None, clock: Clock) -> None:
    await service.running(holdout_share=0.2)
    people = Crowd(service, clock, A_EVERYWHERE)
    await people.come(8)
    found = await all_agree(service, people.answers)
    assert {each.group for each in found} == {ADAPTIVE, HOLDOUT}
    assert len({each.posterior_version for each in found}) >= 6
    assert {each.variant.variant_id for each in found if each.group == HOLDOUT} == {"control"}
    assert {each.propensities.drawn for each in found if each.group == HOLDOUT} == {1.0}
    drawn = [each.propensities.drawn for each in found if each.group == ADAPTIVE]
    assert max(drawn) - min(drawn) > 0.3  # so the posteriors mattered


async def test_whatever_the_experiment_has_been_through(service: Service, worker: None, clock: Clock) -> None:
    """The experiment is segmented twice, gets other variants in another order and another threshold, then none."""
    running = await service.running(segmentation=BY_SOURCE, holdout_share=0.1, baseline_share=0.25)
    people = Crowd(service, clock)
    await people.come(6)
    await update(service, MANUAL, ["device", "source"])
    await serving(service, 2)
    await people.come(4)
    control, a, b = running.variants
    b.retired = True
    late = experiment_pb2.Variant(variant_id="c", name="C")
    await change(service, variants=[late, a, control, b])
    await people.come(3)
    b.name = "Renamed"
    await change(service, variants=[b, control, a, late])
    await people.come(2)
    config = experiment_pb2.SegmentationConfig(min_samples_per_segment=1_000)
    mask = FieldMask(paths=["min_samples_per_segment"])
    await service.call("UpdateSegmentationConfig", experiment_id="cta", config=config, update_mask=mask)
    await people.come(1)
    await update(service, DISABLED)
    await serving(service, 3)
    await people.come(2)
    await service.call("CompleteExperiment", experiment_id="cta", winner_variant_id="a")
    found = await all_agree(service, people.answers)
    assert {each.group for each in found} == {ADAPTIVE, BASELINE, HOLDOUT}
    reasons = Counter(each.reason for each in found)
    assert min(reasons[reason] for reason in (pb.REASON_SAMPLED, pb.REASON_FALLBACK, pb.REASON_BASELINE)) > 20
    assert {each.segmentation_version for each in found} == {1, 2, 3}
    assert {each.variant.variant_id for each in found} == {"control", "a", "b", "c"}
    assert len({each.config_revision for each in found}) >= 6
    assert {each.credited_segment.segment_key for each in found} == {"global"}
    assert {each.variant.retired for each in found if each.variant.variant_id == "b"} == {True}
    chances = [(each.propensities.q_segment, each.propensities.q_global) for each in found]
    assert sum(abs(q_segment - q_global) > 0.1 for q_segment, q_global in chances) > 50


async def test_changes_while_users_come(service: Service, worker: None, redis: Redis) -> None:
    """A server decides by what it knows, which during a change may be the former configuration."""
    running = await service.running(segmentation=BY_SOURCE)
    control, a, b = running.variants
    late = experiment_pb2.Variant(variant_id="c", name="C")
    retired = experiment_pb2.Variant(variant_id="b", name="B", retired=True)
    changes = [
        (2, partial(update, service, MANUAL, ["device"])),
        (2, partial(change, service, variants=[late, control, a, b])),
        (3, partial(update, service, DISABLED)),
        (3, partial(change, service, variants=[a, control, retired, late])),
        (4, partial(update, service, MANUAL, ["source"])),
    ]
    async with load_on(service) as answered:
        for version, each in changes:
            seen = len(answered)
            while len(answered) < seen + 120:
                await asyncio.sleep(0.01)
            await each()
            await serving(service, version)
    await drained(redis)
    first: dict[str, str] = {}
    for user, variant in answered:
        first.setdefault(f"u{user}", variant)
    assert len(first) > 250
    found = await explanations(service, first)
    assert [(each.replay.variant_id, each.replay.problem) for each in found] == [
        (variant, "") for variant in first.values()
    ]
    assert all(each.replay.agrees for each in found)
    assert {each.segmentation_version for each in found} >= {1, 2, 3}
    assert len({each.posterior_version for each in found}) > 10


async def test_a_segment_is_credited_by_what_serves_now(service: Service, worker: None, clock: Clock) -> None:
    await service.running(segmentation=BY_SOURCE)
    await Crowd(service, clock).come(1, users=6)
    await update(service, MANUAL, ["device"])
    await serving(service, 2)
    found = await explained(service, "u1")
    assert found.answered_segment.segment_key == "source:google"
    assert found.credited_segment == admin.SegmentName(segment_key="device:desktop", segment_display_name="Desktop")


async def test_clusters_are_replayed_too(service: Service, worker: None) -> None:
    before = await clustered(service)
    new = [member(audience, 5_000 + n) for audience in range(3) for n in range(20)]
    answers = await allocate(service, new)
    await convert(service, answers[::2])
    await service.learned("cta", 1_260, 30)
    newer = [member(audience, 6_000 + n) for audience in range(3) for n in range(20)]
    users = [asked.user_identifier for asked in (*crowd(1_200)[::40], *new, *newer)]
    answers = [*before[::40], *answers, *await allocate(service, newer)]
    await service.learned("cta", 1_320, 30)
    found = await all_agree(service, dict(zip(users, answers, strict=True)))
    assert {each.answered_segment.segment_key for each in found[:30]} == {"global"}
    assert {each.credited_segment.segment_key for each in found} == {f"cluster:{number}" for number in (1, 2, 3)}
    assert {each.segmentation_version for each in found} == {1, 2}


async def test_variants_that_no_posterior_knows_yet(
    service: Service, worker: None, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a published posterior servers decide by the prior of the current variants."""
    whole = publications.publish

    async def without_posterior(client: Client, secrets: Secrets, publication: Publication) -> None:
        await whole(client, secrets, replace(publication, posterior=None))

    monkeypatch.setattr(publications, "publish", without_posterior)
    running = await service.running(baseline_share=0.0)
    answers = await allocate(service, [request(n) for n in range(40)])
    await drained(redis)
    control, a, b = running.variants
    b.retired = True
    more = [experiment_pb2.Variant(variant_id=name, name=name) for name in ("c", "d", "e")]
    await change(service, variants=[control, a, b, *more])
    answers += await allocate(service, [request(n) for n in range(40, 80)])
    await drained(redis)
    found = await all_agree(service, {f"u{n}": answer for n, answer in enumerate(answers)})
    assert {each.posterior_version for each in found} == {0}
    assert {round(each.propensities.drawn, 6) for each in found[:40]} == {0.333333}
    assert {round(each.propensities.drawn, 6) for each in found[40:]} == {0.2}


async def test_a_log_that_was_changed_is_noticed(service: Service, worker: None, clock: Clock, dsn: str) -> None:
    """First one conversion is deleted from the log. Then all users of variant b have converted, and no others."""
    await service.running(holdout_share=0.2)
    people = Crowd(service, clock, A_EVERYWHERE)
    await people.come(5)
    before = await all_agree(service, people.answers)
    connection = await connect(dsn)
    first, user_key = await connection.fetchrow(
        "SELECT converted_version, user_key FROM assignments ORDER BY converted_version, user_key LIMIT 1"
    )
    await connection.execute(
        "UPDATE assignments SET converted_at = NULL, converted_version = NULL WHERE user_key = $1", user_key
    )
    noticed = []
    for was, each in zip(before, await explanations(service, people.answers), strict=True):
        asked = was.group == ADAPTIVE and was.posterior_version >= first
        assert asked or each.replay.agrees
        assert ("the log is not what it was" in each.replay.problem) == (not each.replay.agrees)
        noticed += [not each.replay.agrees] if asked else []
    assert sum(noticed) >= 0.9 * len(noticed), "only users whose probability is the floor either way may agree"
    await connection.execute(
        """
        UPDATE assignments SET converted_at = CASE variant_no WHEN 2 THEN assigned_at END,
            converted_version = CASE variant_no WHEN 2 THEN counted_version END
        """
    )
    await connection.close()
    after = await explanations(service, people.answers)
    asked = [each for each in after if each.group == ADAPTIVE and each.posterior_version > 0]
    assert all(each.replay.agrees for each in after if each not in asked)
    assert sum(not each.replay.agrees for each in asked) >= 0.9 * len(asked)
    moved = [each for each in after if each.replay.variant_id != each.variant.variant_id]
    assert len(moved) > 50
    assert sum(each.replay.variant_id == "b" for each in moved) > 40


async def test_a_maturity_leaves_nothing_to_replay_but_the_rules(service: Service, worker: None, clock: Clock) -> None:
    await service.running(maturity=Duration(seconds=86_400), holdout_share=0.3)
    people = Crowd(service, clock)
    await people.come(1)
    prior = dict(people.answers)
    await all_agree(service, prior)
    await people.come(2)
    found = await explanations(service, people.answers)
    learned = [each for each in found if each.posterior_version and each.group == ADAPTIVE]
    assert len(learned) > 40
    for each in learned:
        assert (each.replay.variant_id, each.replay.agrees, each.replay.HasField("propensity")) == ("", False, False)
        assert "has a maturity" in each.replay.problem
    held = [user for user, each in zip(people.answers, found, strict=True) if each.group == HOLDOUT]
    holdout = {user: people.answers[user] for user in held}
    await all_agree(service, holdout)
    many = len(people.answers)
    await change(service, maturity=Duration())
    await people.come(2)
    await all_agree(service, dict(list(people.answers.items())[many:]) | prior | holdout)
    for user in list(people.answers)[50:many]:
        if user not in holdout:
            assert "maturity was changed" in (await explained(service, user)).replay.problem


async def test_a_configuration_that_was_not_kept(service: Service, worker: None, dsn: str) -> None:
    """Such decisions are older than the table of configurations."""
    await service.running()
    await service.allocate("cta", "u0")
    await service.learned("cta", 1)
    connection = await connect(dsn)
    await connection.execute("DELETE FROM decision_rules")
    await connection.close()
    found = (await explained(service, "u0")).replay
    assert (found.variant_id, found.agrees) == ("", False)
    assert "r2, is older than what is kept" in found.problem


async def test_who_is_not_stored_is_not_found(service: Service) -> None:
    """There is no worker, so nothing is stored."""
    await service.running()
    await service.allocate("cta", "u0")
    for user in ("u0", "nobody"):
        refusal = await refused(explained(service, user))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "ASSIGNMENT_NOT_FOUND")
        assert refusal.metadata == {"experiment_id": "cta"}
        assert "may not be stored yet" in refusal.message
        assert user not in refusal.message
    unknown = service.call("ExplainAssignment", experiment_id="nowhere", user_identifier="u0")
    refusal = await refused(unknown)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND")


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"experiment_id": "Not A Slug"}, ["experiment_id", "user_identifier"]),
        ({"experiment_id": "cta", "user_identifier": "x" * 257}, ["user_identifier"]),
        ({"experiment_id": "cta", "user_identifier": "a\0b"}, ["user_identifier"]),
        ({"user_identifier": "u0"}, ["experiment_id"]),
    ],
)
async def test_bad_input(service: Service, fields: dict[str, str], paths: list[str]) -> None:
    refusal = await refused(service.call("ExplainAssignment", **fields))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, paths)
