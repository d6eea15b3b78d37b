"""Escapes control characters in what a server answers, before any command can print it."""

from google.protobuf.message import Message

from allocator.printable import escaped


def escape_message(message: Message) -> None:
    """Escape every text of a message, in place: also in lists, maps and messages inside."""
    for field, value in message.ListFields():
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            _escape_map(value, holds_messages=inner.fields_by_name["value"].message_type is not None)
        elif inner is not None:
            for each in value if field.is_repeated else (value,):
                escape_message(each)
        elif field.type == field.TYPE_STRING:
            if field.is_repeated:
                value[:] = [escaped(each) for each in value]
            else:
                setattr(message, field.name, escaped(value))


def _escape_map(entries, *, holds_messages: bool) -> None:  # type: ignore[no-untyped-def] # two kinds of containers
    for key in list(entries):
        value = entries[key]
        name = escaped(key) if isinstance(key, str) else key
        if holds_messages:
            escape_message(value)
            if name != key:
                entries[name].CopyFrom(value)
        elif name != key or isinstance(value, str):
            entries[name] = escaped(value) if isinstance(value, str) else value
        if name != key:
            del entries[key]
