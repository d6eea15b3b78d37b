import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.context import sites
from allocator.context.canonical import MAX_VALUE, canonical
from allocator.context.traffic import CLICK_IDS, Traffic, _site, traffic
from tests.benchmarks.segmenting.referrers import has_data, is_known, referers

TEXT = st.text(st.characters(), max_size=300)
WORDS = [word.partition("=") for _, words in sites.SITES for word in words.split()]
LABELS = [key.replace(".*", "") for key, _, _ in WORDS]
SYNTAX = [*"./:@[]_-１ﬁİ。\x00\ud800\u212a ", "https://", "http://", "android-app://", "www.", "mail.", "co.uk", "com"]
SAID = ["organic", "cpc", "ads", "direct", "(none)", "unknown", "a" * 63]
PIECES = st.sampled_from([*LABELS, *CLICK_IDS, *SYNTAX, *SAID])
GIVEN = TEXT | st.lists(PIECES, max_size=8).map("".join)
REFERRER = GIVEN | st.builds("{}://{}/{}".format, st.sampled_from(["http", "HTTPS", "android-app"]), GIVEN, TEXT)


def referred(referrer: str) -> tuple[str, str]:
    came = traffic("", "", (), referrer)
    return came.source, came.medium


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (
            "instagram",
            "ig instagram.com l.instagram.com Instagram INSTAGRAM https://www.instagram.com/p/1 ｉｎｓｔａｇｒａｍ",
        ),
        ("facebook", "fb Facebook m.facebook.com lm.facebook.com l.facebook.com fb.me meta facebook_ads fb-ads"),
        ("twitter", "x t.co twitter x.com mobile.twitter.com"),
        ("linkedin", "linkedin lnkd.in LinkedIn.com de.linkedin.com"),
        ("google", "google google.de www.google.co.uk googleads google_ads adwords"),
        ("gmail", "gmail mail.google.com"),
        ("youtube", "youtube youtu.be m.youtube.com yt"),
        ("spring-2026", "Spring-2026"),
        ("blog.example.com", "blog.example.com"),
    ],
)
def test_names_of_a_source(source: str, names: str) -> None:
    for name in names.split():
        assert traffic(f" {name}\n", "email", (), "") == Traffic(source, "email")


@pytest.mark.parametrize(
    ("referrer", "source", "medium"),
    [
        ("https://www.google.com/", "google", "search"),
        ("https://www.google.com.au/search?q=shoes", "google", "search"),
        ("HTTP://NEWS.GOOGLE.DE", "google", "search"),
        ("https://docs.google.com/document/d/1", "google", "referral"),
        ("https://mail.google.com/mail/u/0/", "gmail", "email"),
        ("android-app://com.google.android.gm/", "gmail", "email"),
        ("android-app://com.google.android.googlequicksearchbox/", "google", "search"),
        ("android-app://com.linkedin.android", "linkedin", "social"),
        ("android-app://com.example.shop/page", "example.com", "referral"),
        ("https://fr.search.yahoo.com/search", "yahoo", "search"),
        ("https://us-mg5.mail.yahoo.com/", "yahoo", "email"),
        ("https://finance.yahoo.com/quote", "yahoo", "referral"),
        ("https://cn.bing.com/", "bing", "search"),
        ("https://duckduckgo.com/", "duckduckgo", "search"),
        ("https://www.baidu.com/link", "baidu", "search"),
        ("https://yandex.com.tr/search/", "yandex", "search"),
        ("https://m.search.naver.com/search.naver", "naver", "search"),
        ("https://t.co/abc", "twitter", "social"),
        ("https://l.instagram.com/?u=x", "instagram", "social"),
        ("https://lnkd.in/e", "linkedin", "social"),
        ("https://youtu.be/1", "youtube", "social"),
        ("https://out.reddit.com/t3", "reddit", "social"),
        ("https://t.me/channel", "telegram", "social"),
        ("https://wa.me/1", "whatsapp", "social"),
        ("https://outlook.live.com/mail/0/", "outlook", "email"),
        ("https://chatgpt.com/", "chatgpt", "chatbot"),
        ("https://www.perplexity.ai/search", "perplexity", "chatbot"),
        ("https://gemini.google.com/app", "gemini", "chatbot"),
        ("https://copilot.microsoft.com/", "copilot", "chatbot"),
        ("https://claude.ai/new", "claude", "chatbot"),
        ("https://www.amazon.co.jp/dp/1", "amazon", "referral"),
        ("https://googleads.g.doubleclick.net/pagead", "doubleclick", "paid"),
        ("https://webmail.example.org/", "example.org", "email"),
        ("https://search.example.com.br/?q=1", "example.com.br", "search"),
        ("https://www.blog.example.co.uk/", "example.co.uk", "referral"),
        ("https://google.com.example.net/", "example.net", "referral"),
        ("https://notgoogle.com/", "notgoogle.com", "referral"),
        ("https://research.google.com/", "google", "referral"),
        ("https://user:secret@www.example.com:8443/", "example.com", "referral"),
        ("https://www.example.com./", "example.com", "referral"),
        ("https://bücher.example/", "bücher.example", "referral"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "referral"),
        ("http://192.0.2.7:8080/", "192.0.2.7", "referral"),
        ("http://[2001:DB8::7]:8080/", "2001:db8::7", "referral"),
    ],
)
def test_referrers(referrer: str, source: str, medium: str) -> None:
    assert referred(referrer) == (source, medium)


@pytest.mark.parametrize(
    "referrer",
    [
        *("", " ", "google.com", "about:blank", "//google.com/", "file:///etc/passwd", "javascript://google.com"),
        *("https://", "https:///x", "https://localhost/", "http://1.2.3/", "https://a..b/", "https://.com/"),
        *("https://goo\x00gle.com/", "https://[::1/", "http://[fb]/", f"https://{'a.' * 126}com/"),
        *("https://" + "a" * 1_000_000, "\x00" * 1_000_000),
    ],
)
def test_what_is_no_url_of_a_public_host_counts_as_none(referrer: str) -> None:
    assert referred(referrer) == ("direct", "direct")


@pytest.mark.parametrize(
    ("source", "medium", "expected"),
    [
        *(
            ("google", paid, "paid_search")
            for paid in ("cpc", "PPC", "paidsearch", "paid-search", "Paid Search", "sem")
        ),
        *(("facebook", paid, "paid_social") for paid in ("cpc", "ppc", "paid_social", "PaidSocial", "paid-social")),
        *(("list", mail, "email") for mail in ("email", "Email", "e-mail", "E_MAIL", " newsletter ")),
        *(("ig", social, "social") for social in ("social", "social-media", "Social Network", "organic", "")),
        ("google", "organic", "search"),
        ("partner", "organic", "organic"),
        ("partner", "Affiliate", "affiliate"),
        ("partner", "ｃｐｍ", "paid"),
        ("google ads", "", "paid_search"),
        ("fb_ads", "", "paid_social"),
        ("newsletter", "", "email"),
        ("(direct)", "(none)", "direct"),
        ("partner", "", "unknown"),
        ("partner", "(not set)", "unknown"),
        ("partner", "x" * 1_000_000, "x" * MAX_VALUE),
    ],
)
def test_media(source: str, medium: str, expected: str) -> None:
    assert traffic(source, medium, (), "").medium == expected


@pytest.mark.parametrize(
    ("click_ids", "expected"),
    [
        (["gclid"], Traffic("google", "paid_search")),
        (["ScCid"], Traffic("snapchat", "paid_social")),
        (["fbclid", "gclid"], Traffic("google", "paid_search")),
        (["fbclid"], Traffic("facebook", "social")),
        (["q" * 1_000_000, "page"], Traffic("direct", "direct")),
    ],
)
def test_click_ids(click_ids: list[str], expected: Traffic) -> None:
    assert traffic("", "", click_ids, "") == expected


@pytest.mark.parametrize(
    ("source", "medium", "click_id", "referrer", "expected"),
    [
        ("bing", "cpc", "gclid", "https://t.co/", Traffic("bing", "paid_search")),
        ("bing", "", "gclid", "https://t.co/", Traffic("bing", "search")),
        ("google", "", "gclid", "https://t.co/", Traffic("google", "paid_search")),
        ("partner", "", "gclid", "https://t.co/", Traffic("partner", "paid_search")),
        ("", "email", "gclid", "https://t.co/", Traffic("google", "email")),
        ("", "cpc", "", "https://t.co/", Traffic("twitter", "paid_social")),
        ("", "email", "", "", Traffic("unknown", "email")),
        ("", "", "gclid", "https://t.co/", Traffic("google", "paid_search")),
        ("", "", "fbclid", "https://t.co/", Traffic("facebook", "social")),
        ("", "", "fbclid", "https://l.instagram.com/", Traffic("instagram", "social")),
        ("", "", "", "https://t.co/", Traffic("twitter", "social")),
    ],
)
def test_precedence(source: str, medium: str, click_id: str, referrer: str, expected: Traffic) -> None:
    assert traffic(source, medium, [click_id] if click_id else [], referrer) == expected


@given(GIVEN, GIVEN, st.lists(GIVEN, max_size=3), REFERRER)
def test_any_text_has_a_canonical_source_and_medium_that_stay(
    source: str, medium: str, click_ids: list[str], referrer: str
) -> None:
    came = traffic(source, medium, click_ids, referrer)
    for value in (came.source, came.medium):
        assert value == canonical(value)
        assert value
    assert traffic(came.source, came.medium, (), "") == came


@given(REFERRER)
def test_a_referrer_is_asked_last(referrer: str) -> None:
    for medium in ("", "email"):
        assert traffic("partner", medium, (), referrer) == traffic("partner", medium, (), "")
    assert traffic("", "", ["gclid"], referrer) == CLICK_IDS["gclid"]


def test_names_in_the_table_are_canonical_and_stay() -> None:
    for key, _, source in WORDS:
        assert key == canonical(key)
        assert traffic(source or key.removesuffix(".*"), "", (), "").medium != "unknown"
        if source:
            assert traffic(source, "", (), "").source == source
    for name, came in CLICK_IDS.items():
        assert name == canonical(name)
        assert traffic(came.source, came.medium, (), "") == came


def test_random_hosts_do_not_fill_the_memory() -> None:
    limit = _site.cache_info().maxsize
    assert limit
    for number in range(limit + 100):
        traffic("", "", (), f"https://{number}.example.com/")
    assert _site.cache_info().currsize == limit


@pytest.mark.skipif(not has_data(), reason="the lists of referrers are not here")
def test_public_lists() -> None:
    listed = referers()
    covered = [(one, came) for one in listed if is_known(came := traffic("", "", (), one.text))]
    assert len(covered) >= 0.8 * len(listed)
    assert sum(one.medium == came.medium for one, came in covered) >= 0.97 * len(covered)
