from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.context import user_agent
from allocator.context.user_agent import DEVICES, MATCHED_CHARACTERS, UserAgent, parse_user_agent
from tests.benchmarks.segmenting.user_agents import has_data, held_out, ordinary

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME = f"{WEBKIT} Chrome/141.0.0.0"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
IOS = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{WINDOWS} {CHROME} Safari/537.36", UserAgent("desktop", "windows", "chrome", False)),
        (f"{WINDOWS} {CHROME} Safari/537.36 Edg/141.0.0.0", UserAgent("desktop", "windows", "edge", False)),
        (f"{MAC} AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
         UserAgent("desktop", "mac os x", "safari", False)),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
         UserAgent("desktop", "linux", "firefox", False)),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36",
         UserAgent("desktop", "chrome os", "chrome", False)),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {IOS}",
         UserAgent("mobile", "ios", "mobile safari", False)),
        (f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36",
         UserAgent("mobile", "android", "chrome mobile", False)),
        ("", UserAgent("", "", "", False)),
    ],
)  # fmt: skip
def test_all_that_is_known(text: str, expected: UserAgent) -> None:
    assert parse_user_agent(text) == expected


@pytest.mark.parametrize(
    ("text", "device"),
    [
        (f"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) {IOS}", "tablet"),
        (f"{MAC} {IOS}", "tablet"),  # an iPad that requests desktop pages
        (f"Mozilla/5.0 (Linux; Android 14; SM-X710) {CHROME} Safari/537.36", "tablet"),
        (f"Mozilla/5.0 (Linux; Android 11; Lenovo TB-X606F) {CHROME} Mobile Safari/537.36", "tablet"),
        (f"Mozilla/5.0 (Linux; Android 9; KFMAWI) {WEBKIT} Silk/120.4.1 like Chrome/120.0 Safari/537.36", "tablet"),
        (f"Mozilla/5.0 (Linux; Android 7.1; Coolpad 3632A) {CHROME} Mobile Safari/537.36", "mobile"),
        ("Dalvik/2.1.0 (Linux; U; Android 14; SM-A546B Build/UP1A.231005.007)", "mobile"),
        (f"Mozilla/5.0 (Linux; Android 9; HP Chromebook x360) {CHROME} Safari/537.36", "desktop"),
        ("Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; Tablet PC 2.0)", "desktop"),
        (f"Mozilla/5.0 (Web0S; Linux/SmartTV) {CHROME} Safari/537.36", "other"),
        (f"Mozilla/5.0 (Linux; Android 11; BRAVIA 4K VH2 Build/RP1A) {CHROME} Safari/537.36", "other"),
        (f"Mozilla/5.0 (PlayStation; PlayStation 5/4.03) {IOS}", "other"),
        (f"{WINDOWS[:-1]}; Xbox; Xbox One) {CHROME} Safari/537.36 Edge/44", "other"),
    ],
)
def test_devices_of_people(text: str, device: str) -> None:
    parsed = parse_user_agent(text)
    assert (parsed.device, parsed.is_bot) == (device, False)


@pytest.mark.parametrize(
    "text",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        f"{WINDOWS} {WEBKIT} HeadlessChrome/141.0.0.0 Safari/537.36",
        f"Mozilla/5.0 {WEBKIT[:-1]}; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) {CHROME} Mobile Safari/537.36 (compatible; AdsBot)",
        "facebookexternalhit/1.1",
        "curl/8.5.0",
        "python-requests/2.32.3",
        "Go-http-client/2.0",
        "Acme uptime checker 2.0 (ops@example.com)",
        "Mozilla/5.0 (compatible; Example/1.0)",
        "hello",
    ],
)
def test_programs(text: str) -> None:
    assert parse_user_agent(text).is_bot


@pytest.mark.parametrize(
    "text",
    [
        f"Mozilla/5.0 (Linux; Android 9; CUBOT X19) {CHROME} Mobile Safari/537.36",
        f"Mozilla/5.0 (Linux; Android 7.0; M bot 60 Build/NRD90M) {CHROME} Mobile Safari/537.36",
        f"Mozilla/5.0 (Linux; Android 15; RMX5116 Build/AP3A.240617.008) {CHROME} Mobile Safari/537.36",
        "AcmeShop/4.2 (iPhone; iOS 18.5; Scale/3.00)",
    ],
)
def test_names_of_models_builds_and_apps_make_no_bot(text: str) -> None:
    parsed = parse_user_agent(text)
    assert (parsed.device, parsed.is_bot) == ("mobile", False)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=2_048))
def test_any_text_has_a_device(text: str) -> None:
    parsed = parse_user_agent(text)
    assert parsed.device in DEVICES if text else parsed.device == ""
    assert (parsed.os, parsed.browser) == (parsed.os.lower(), parsed.browser.lower())


@pytest.mark.parametrize("piece", ["a", " ", "/", "(", "1.", "\x01", "é", "HTC ", "; ", "Android 1; ", "a@", "bot"])
def test_no_more_than_the_beginning_is_matched(piece: str) -> None:
    beginning = (piece * 2_048)[:MATCHED_CHARACTERS]
    with patch.object(user_agent, "_resolve", wraps=user_agent._resolve) as resolve:
        whole = parse_user_agent(beginning + piece * 1_000)
    assert len(resolve.call_args.args[0]) == MATCHED_CHARACTERS
    assert whole == parse_user_agent(beginning)


@pytest.mark.skipif(not has_data(), reason="the collections of user agents are not here")
def test_real_user_agents() -> None:
    parsed = [(one.device, parse_user_agent(one.text)) for one in held_out()]
    assert sum(("bot" if agent.is_bot else agent.device) == device for device, agent in parsed) >= 0.95 * len(parsed)
    bots = [agent.is_bot for device, agent in parsed if device == "bot"]
    assert sum(bots) >= 0.95 * len(bots)
    assert not [one.text for one in ordinary() if parse_user_agent(one.text).is_bot]
