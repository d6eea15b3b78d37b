"""Detection of bots by their user agents: by words that are typical for programs, and by a public list of programs."""

from contextlib import suppress

import re2
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

_MARKS = (
    r"(?:[^u]|[^c]u)bots?(?:[^a-z]|$)|^bot|robot",  # Cubot is a maker of phones
    r"crawl|spider|scrap(?:e|y|ing)|slurp|harvest|archive|extractor|fetch|retriev|sucker|parser|buster|grab",
    r"monitor|uptime|synthetic|observatory|watchdog|health|insights|lighthouse|diagnos|exporter|scheduler|webhook",
    r"scan(?:ner|ning|s|\b)|prob(?:e|ing)|audit|validat|verif|check(?:er|s|ing|link)?\b|inspect|analy[sz]er|detect",
    r"preview|expander|proxy(?:[^l]|$)|thumbnail|screenshot|favicon|external(?:hit|agent|ads|ua|fetch)|transcoder",
    r"feed ?(?:parser|fetcher|burner|validator)|subscribers|simplepie|aggregator|indexe?(?:r|s|ing)\b|lookup|recon\b",
    r"headless|phantomjs|puppeteer|playwright|selenium|webdriver|cypress|libwww-perl",
    r"search ?(?:engine|console|tool)|^[a-z]*search|\bseo|research|domain|exploit|jndi:|<\?",
    r"google-|adsense|adwords|-user/|agent/|-agent\b|worker\b",
    r"https?:|[a-z0-9_.-]+(?:@|\[at\]|\(at\))[a-z0-9-]+\.[a-z]",
    r"^(?:[a-z0-9_.-]*(?:curl|wget|http)|python|java/|perl|php|ruby|go-|axios|node|undici|postman|guzzle|jetty|apache)",
    r"(?:^|[\s(;,])(?:[a-z0-9-]+\.)+(?:com|net|org|io|de|eu|co|ai|dev|edu)(?:[/\s;,):]|$)",
)
_MARKED = re2.compile("(?i)" + "|".join(_MARKS))
_MODEL = re2.compile(r"(?i)(android [\d.]+; ?)(?:[a-z]{2}[-_][a-z]{2}; ?)?[^;)]*")
_STRUCTURED = re2.compile(r"/v?\d|[(\[;]")


def _public_list() -> re2.Filter:
    patterns = re2.Filter()
    for entry in CRAWLER_USER_AGENTS_DATA:
        with suppress(re2.error):  # the pattern has look-around, which RE2 does not support
            patterns.Add(entry["pattern"])
    patterns.Compile()
    return patterns


_LISTED = _public_list()


def is_bot(text: str, device: str, os: str) -> bool:
    """Return whether the user agent is that of a program.

    A user agent that names neither a device nor a system is a program if it looks like that of a browser, or if it has
    no version and no brackets. The list is not used for phones and tablets, because its patterns also occur in the
    names of their models and builds.
    """
    if _MARKED.search(_MODEL.sub(r"\1", text)):
        return True
    if not device and not os and (text.startswith("Mozilla/") or not _STRUCTURED.search(text)):
        return True
    return device not in ("mobile", "tablet") and bool(_LISTED.Match(text))
