"""Requests that nobody would send: messages of every method, filled at random and then damaged."""

import random
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from samplit.admin.v1 import (
    alert_service_pb2,
    audit_service_pb2,
    clustering_service_pb2,
    experiment_service_pb2,
    recommendation_service_pb2,
    segmentation_service_pb2,
)
from samplit.allocation.v1 import allocation_service_pb2

DATA = (allocation_service_pb2,)
ADMIN = (
    alert_service_pb2,
    audit_service_pb2,
    clustering_service_pb2,
    experiment_service_pb2,
    recommendation_service_pb2,
    segmentation_service_pb2,
)
ODD_PATHS = (
    "/",
    "/foo",
    "/a/b/c",
    "//",
    "/samplit.admin.v1.ExperimentService/",
    "/samplit.admin.v1.Nothing/Nowhere",
    "/é/ü",
)
# What drivers, Python and its libraries say, and no answer of ours does.
LEAK = re.compile(
    r"Traceback|asyncpg|msgspec|hiredis|redis\.|\b[A-Z]\w+(Error|Exception|Warning)\b|<class|object at 0x|File \""
    r"|codec can't|relation \"|violates|syntax error at|invalid input for|out of range for type|NoneType|__\w+__"
)
_INT = (0, 1, -1, 2, 127, 128, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    *("", "a", "control", "conversion", "source", "device", "attributes.plan", "r1", "cluster:1", "global", "other"),
    *(
        "EUR",
        "Europe/Berlin",
        "posixrules",
        "0d9c5d7c-6f3b-4f0b-9a37-5e8e6f3f2a10",
        "2026-01-01",
        "null",
        "' OR 1=1 --",
    ),
    *("\0", "a\0b", "\x1b[2J", "\u202eabc", "é" * 300, "x" * 70_000, "{}", "%s%n", "../../etc/passwd", "\U0010ffff"),
)
_MOST_DEPTH = 5
_POOL = 400  # messages of a method, each damaged in many ways


@dataclass(frozen=True)
class Request:
    """A call: its path, its message, and what it sends as "authorization"."""

    path: str
    message: bytes
    authorization: str | None


class Fuzzer:
    """Makes requests. The same seed makes the same ones."""

    def __init__(self, seed: int, key: str, experiments: Sequence[str]) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self._key = key
        self._texts = (*_TEXTS, *(3 * len(_TEXTS) // (2 * len(experiments)) * list(experiments)))
        self._pools: dict[str, list[bytes]] = {}

    def requests(self, modules: Sequence[Any], count: int) -> Iterator[Request]:
        """Yield so many requests to the services of these modules, and now and then to none."""
        methods = [method for module in modules for method in methods_of(module)]
        methods += [health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["Check"]]
        choose = self._random
        for _ in range(count):
            method = choose.choice(methods)
            path = f"/{method.containing_service.full_name}/{method.name}"
            message = choose.choice(self._pool(method))
            if choose.random() < 0.5:
                message = self._damaged(message)
            if choose.random() < 0.01:
                path = choose.choice(ODD_PATHS)
            yield Request(path, message, self._authorization())

    def _authorization(self) -> str | None:
        roll = self._random.random()
        if roll < 0.97:
            return f"Bearer {self._key}"
        return self._random.choice(
            (None, "", "Bearer", "Basic eA==", self._key, "Bearer " + "x" * 3_000, "bearer \x7e")
        )

    def _pool(self, method: MethodDescriptor) -> list[bytes]:
        name = method.full_name
        if name not in self._pools:
            self._pools[name] = [self._message(method.input_type, 0).SerializeToString() for _ in range(_POOL)]
        return self._pools[name]

    def _message(self, descriptor: Descriptor, depth: int) -> Message:
        message: Message = GetMessageClass(descriptor)()
        sparse = self._random.random()
        for field in descriptor.fields:
            if depth < _MOST_DEPTH and self._random.random() > sparse * 0.8:
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            entries = getattr(message, field.name)
            key, value = inner.fields_by_name["key"], inner.fields_by_name["value"]
            for _ in range(self._random.randrange(4)):
                if value.message_type is not None:
                    entries[self._scalar(key)].CopyFrom(self._message(value.message_type, depth + 1))
                else:
                    entries[self._scalar(key)] = self._scalar(value)
        elif field.is_repeated:
            values = [self._value(field, depth) for _ in range(self._random.randrange(5))]
            getattr(message, field.name).extend(values)
        elif inner is not None:
            getattr(message, field.name).CopyFrom(self._message(inner, depth + 1))
        else:
            setattr(message, field.name, self._scalar(field))

    def _value(self, field: FieldDescriptor, depth: int) -> Any:
        return self._scalar(field) if field.message_type is None else self._message(field.message_type, depth + 1)

    def _scalar(self, field: FieldDescriptor) -> Any:
        choose = self._random.choice
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                text = choose(self._texts)
                if self._random.random() < 0.1:
                    text = "".join(self._random.choices(string.printable, k=self._random.randrange(40)))
                return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
            case FieldDescriptor.CPPTYPE_BOOL:
                return choose((True, False))
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return choose(_FLOATS)
            case FieldDescriptor.CPPTYPE_ENUM:
                return choose((*field.enum_type.values_by_number, 77, -1))
            case FieldDescriptor.CPPTYPE_INT32:
                return choose([number for number in _INT if -(2**31) <= number < 2**31])
            case FieldDescriptor.CPPTYPE_UINT32:
                return choose([number for number in _INT if 0 <= number < 2**32])
            case FieldDescriptor.CPPTYPE_UINT64:
                return choose([number for number in _INT if number >= 0])
            case _:
                return choose([number for number in _INT if -(2**63) <= number < 2**63])

    def _damaged(self, message: bytes) -> bytes:
        choose = self._random
        raw = bytearray(message)
        for _ in range(choose.randrange(1, 4)):
            where = choose.randrange(len(raw) + 1)
            match choose.randrange(5):
                case 0:
                    raw[where : where + 1] = choose.randbytes(1)
                case 1:
                    del raw[where:]
                case 2:
                    raw[where:where] = choose.randbytes(choose.randrange(1, 12))
                case 3:
                    del raw[where : where + choose.randrange(1, 8)]
                case _:
                    raw[where:where] = raw[: choose.randrange(64)]
        return bytes(raw)


def methods_of(module: Any) -> Iterator[MethodDescriptor]:
    """Yield the methods of a module's services."""
    for service in module.DESCRIPTOR.services_by_name.values():
        yield from service.methods


@dataclass(frozen=True)
class Answer:
    """How a call ended: its status, and every text that came with it."""

    code: grpc.StatusCode
    texts: tuple[str, ...] = ()

    @property
    def leak(self) -> str:
        """What of the texts is not ours, or nothing."""
        return next((text for text in self.texts if LEAK.search(text)), "")


async def ask(channel: grpc.aio.Channel, request: Request, seconds: float = 60.0) -> Answer:
    """Send a request, which may take so many seconds."""
    metadata = () if request.authorization is None else (("authorization", request.authorization),)
    call = channel.unary_unary(request.path)
    try:
        await call(request.message, metadata=metadata, timeout=seconds)
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return Answer(error.code(), (error.details() or "", *_texts(details)))
    return Answer(grpc.StatusCode.OK)


def _texts(details: bytes) -> Iterator[str]:
    for packed in status_pb2.Status.FromString(details).details:
        bad = error_details_pb2.BadRequest()
        if packed.Unpack(bad):
            yield from (violation.description for violation in bad.field_violations)
