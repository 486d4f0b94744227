"""What the firewall of a node lets in, in short, from what ufw, nft or iptables-save say."""

from __future__ import annotations

import re

import msgspec

SCRIPT = r"""
if command -v ufw >/dev/null 2>&1 && text=$(ufw status verbose 2>/dev/null) && [ -n "$text" ]; then
  case $text in *inactive*) ;; *) printf 'ufw\n%s\n' "$text"; exit 0 ;; esac
fi
if command -v nft >/dev/null 2>&1 && text=$(nft list ruleset 2>/dev/null) && [ -n "$text" ]; then
  printf 'nftables\n%s\n' "$text"; exit 0
fi
if command -v iptables-save >/dev/null 2>&1 && text=$(iptables-save 2>/dev/null) && [ -n "$text" ]; then
  printf 'iptables\n%s\n' "$text"; exit 0
fi
echo none
"""


class Firewall(msgspec.Struct, frozen=True):
    """A summary; it does not replace reading the rules."""

    tool: str
    """"ufw", "nftables", "iptables", or "none"."""
    input: str | None = None
    """What becomes of what no rule names: "drop", "accept", "reject"; None where no chain filters what comes in."""
    forward: str | None = None
    allowed: tuple[str, ...] = ()
    """What rules let in: "22/tcp", "80/tcp from 10.8.0.0/24"."""
    rules: int = 0


def parse(text: str) -> Firewall:
    """A summary of what the script said."""
    tool, _, rest = text.partition("\n")
    found = {"ufw": _ufw, "nftables": _nft, "iptables": _iptables}.get(tool.strip())
    return found(rest) if found is not None else Firewall("none")


def _ufw(text: str) -> Firewall:
    words = {"deny": "drop", "allow": "accept", "reject": "reject"}
    default = re.search(r"Default: (\w+) \(incoming\)(?:.*?(\w+) \(routed\))?", text)
    rows = re.findall(r"^(\S+(?: \(v6\))?)\s+(ALLOW|DENY|REJECT|LIMIT)(?: IN)?\s+(.+?)\s*(?:#.*)?$", text, re.MULTILINE)
    allowed = [
        f"{port}{'' if source.startswith('Anywhere') else f' from {source}'}"
        for port, what, source in rows
        if what in {"ALLOW", "LIMIT"} and "(v6)" not in port
    ]
    return Firewall(
        "ufw",
        words.get(default[1]) if default else None,
        words.get(default[2] or "") if default else None,
        tuple(allowed),
        len(rows),
    )


def _nft(text: str) -> Firewall:
    policies: dict[str, str] = {}
    allowed: list[str] = []
    hook, count = "", 0
    for line in (raw.strip() for raw in text.splitlines()):
        if found := re.match(r"type filter hook (\w+) .*?;(?: policy (\w+);)?", line):
            hook = found[1]
            policy = found[2] or "accept"
            policies[hook] = "drop" if "drop" in {policy, policies.get(hook)} else policy
        elif line.startswith("chain "):
            hook = ""
        elif (
            line and line[0] not in "}#" and not line.startswith(("table ", "set ", "type ", "elements ", "flags ", "comment "))
        ):
            count += 1
            if hook in {"input", ""} and line.split(" comment ")[0].rstrip().endswith("accept"):
                allowed += _nft_ports(line)
    return Firewall("nftables", policies.get("input"), policies.get("forward"), tuple(dict.fromkeys(allowed)), count)


def _nft_ports(line: str) -> list[str]:
    found = re.search(r"\b(tcp|udp|th) dport (\{[^}]*\}|\S+)", line)
    if found is None:
        return []
    source = re.search(r"\b(?:ip6? saddr|iifname) (\{[^}]*\}|\S+)", line)
    origin = f" from {source[1].strip(chr(34))}" if source else ""
    return [f"{port.strip()}/{found[1]}{origin}" for port in found[2].strip("{} ").split(",")]


def _iptables(text: str) -> Firewall:
    table = text.split("*filter", 1)[-1].split("\n*", 1)[0]
    policy = dict(re.findall(r"^:(\w+) (ACCEPT|DROP) ", table, re.MULTILINE))
    rules = [line for line in table.splitlines() if line.startswith("-A ")]
    allowed = []
    for line in rules:
        ports = re.search(r"--dports? (\S+)", line)
        if line.startswith("-A INPUT ") and line.endswith("-j ACCEPT") and ports:
            kind = re.search(r"-p (\w+)", line)
            source = re.search(r"-s (\S+)", line)
            origin = f" from {source[1]}" if source else ""
            allowed += [f"{port}/{kind[1] if kind else 'any'}{origin}" for port in ports[1].split(",")]
    wanted = {name: policy[chain].lower() for name, chain in (("input", "INPUT"), ("forward", "FORWARD")) if chain in policy}
    return Firewall("iptables", wanted.get("input"), wanted.get("forward"), tuple(allowed), len(rules))
