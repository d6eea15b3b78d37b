"""The device class of a user agent. It corrects the package user_agents, and knows devices that the package lacks."""

from typing import Any

import re2

_OTHER = re2.compile(
    r"(?i)\b(?:android|apple|google|smart|net|hbb|pay|mi|magenta|ip|hi|swiss|digital)?[-_ ]?tv(?:[^a-z]|$|box|os)"
    r"|smart[-_]?tv|smartcast|bravia|\bviera|vidaa|netcast|web0s|roku|crkey|chromecast|hbbtv|ce-html|nettv|[(;] ?DTV"
    r"|brightsign|\bAFT[A-Z]{1,4}\d*\b|\bMiBOX|set-?top|stb[^a-z]|\bstb|[-_ ]box\b|(?:led|uhd)\d\d|\d\dled"
    r"|playstation|\(PS\d|xbox|nintendo|\bouya|retroid|shield android"
    r"|\bwatch|wear os|SM-R\d|oculus|\bglass \d|pacific build|\bpico\b"
    r"|qtcarbrowser|tesla/|carplay|\bauto(?:motive|radio)\b|smart ?speaker|sonos|\becho (?:dot|show|plus)"
)
_TABLET = re2.compile(
    r"(?i)ipad|macintosh;.*mobile/|tablet(?:[^ a-z]| [^p]|$)|/apad|tab(?:[^a-z]|$)|\btab[a-z]?\d|playbook"
    r"|[^l]pad(?:[^a-z]|$)"  # Coolpad is a maker of phones
    r"|kindle|\bKF[A-Z]{2,6}\b|xoom|nook\b|kobo\b|pocketbook|nexus (?:7|9|10)\b|iconia|transformer|\bslate\b"
    r"|SM-[TPX]\d{3}|GT-P\d{4}|GT-N[58]\d{3}|lenovo ?(?:TB|YT)|\bTB-?[0-9X]\d{2,3}|\bYT\d?-|\bTF\d{3}|\bTZ\d{2,3}\b"
    r"|\b[A-Z]{3}\d?-W\d\d\b|\bMID[-_]?\d|\biplay|\bPM[TP]\d{4}|\bOPD\d{4}|flyer|\b(?:7|8|9|10)(?:\.\d)?[-_ ]?inch"
)
_MOBILE = re2.compile(
    r"(?i)mobi(?:le|/)|\bi?phone|\bAdr \d|midp|whatsapp|symbian|kaios|\biPh\d|meego|palm|tizen|katana|up\.browser|up/\d"
    r"|windows nt 10\.0; arm; (?:lumia|\d{3}\b)"
)
_DESKTOP = re2.compile(
    r"(?i)windows nt|\bwin(?:32|64|9\dx?|10|dows)\b|macintosh|mac ?os[ /(]|mac_powerpc|macbook|\bimac|macpro|\bmac\d"
    r"|\bdesktop[; ]|x86_64|\bx11;|(?:free|open|net)bsd|linux; [a-z]{2}\)|amiga|\bos/2|risc os"
)
_LAPTOP = re2.compile(r"(?i)chromebook|aspire|latitude|inspiron|travelmate|elitebook|lifebook|satellite|vostro|\bNUC\d")
_ANDROID = re2.compile(r"(?i)\bandroid|\badr \d")
_FULL_BROWSER = re2.compile("Safari/|Firefox|Opera")


def device_of(text: str, agent: Any) -> str:
    """Return the device class of a user agent; empty if it is not known. `agent` is the result of user_agents."""
    if _OTHER.search(text):
        return "other"
    if _ANDROID.search(text):
        return _android_device(text)
    if agent.is_tablet or _TABLET.search(text):
        return "tablet"
    if agent.is_mobile or _MOBILE.search(text):
        return "mobile"
    return "desktop" if agent.is_pc or _DESKTOP.search(text) else ""


def _android_device(text: str) -> str:
    """Return the device class of an Android user agent.

    Browsers omit "Mobile" on tablets. Other programs never write it, and mostly run on phones.
    """
    if _TABLET.search(text):
        return "tablet"
    if _MOBILE.search(text):
        return "mobile"
    if _LAPTOP.search(text):
        return "desktop"
    return "tablet" if _FULL_BROWSER.search(text) else "mobile"
