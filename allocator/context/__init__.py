"""Contexts: what is known about a user at the moment of the decision, in dimensions that all channels share."""

from allocator.context.canonical import UNKNOWN, canonical
from allocator.context.channels.email import Email
from allocator.context.channels.funnel import Funnel
from allocator.context.channels.push import Push
from allocator.context.channels.web import Web
from allocator.context.dimensions import DIMENSIONS, MAX_ATTRIBUTES, is_attribute_name
from allocator.context.extract import DAYS_OF_WEEK, Context, day_number, extract, load_tables

__all__ = [
    "DAYS_OF_WEEK",
    "DIMENSIONS",
    "MAX_ATTRIBUTES",
    "UNKNOWN",
    "Context",
    "Email",
    "Funnel",
    "Push",
    "Web",
    "canonical",
    "day_number",
    "extract",
    "is_attribute_name",
    "load_tables",
]
