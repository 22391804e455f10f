"""Simulated exchanges as captures: what `bodies` writes, with the account, the address and the answer beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.simulate.bodies import PATHS, USAGE, body, headers, signature
from gateway.simulate.flow import Columns
from gateway.simulate.table import Client, Kind, Tables
from gateway.simulate.world import COUNTRIES, World, address_text, user_address
from gateway.values import timestamp_text


class Capturing:
    """Makes captures of what `flow` made."""

    def __init__(self, world: World, tables: Tables) -> None:
        self.world = world
        self._kinds: list[Kind] = list(tables.kinds.values())
        self._clients: list[Client] = list(tables.clients.values())
        self._scenarios = list(tables.scenarios.values())

    def rows(self, made: Columns) -> Iterator[dict[str, Any]]:
        """The captures, in the order of the rows."""
        names = list(made)
        for values in zip(*(made[name].tolist() for name in names), strict=True):
            yield self.capture(dict(zip(names, values, strict=True)))

    def capture(self, row: dict[str, int]) -> dict[str, Any]:
        """One exchange."""
        client, kind, scenario = self._clients[row["client"]], self._kinds[row["kind"]], self._scenarios[row["scenario"]]
        raw = body(client, kind, row)
        account = self.account(row)
        passed_on = user_address(row["user"]) if row["forwarded"] else None
        usage = dict(zip(USAGE[client.protocol], (len(raw) // 4, row["output"]), strict=True))
        response: dict[str, Any] = {"status": row["status"], "usage": usage}
        if row["issued"]:
            response["issued"] = [signature(row["issued"])]
        return {
            "ts": timestamp_text(row["at"]), "method": "POST", "path": PATHS[client.protocol], "http_version": "1.1",
            "headers": headers(client, row, f"sk-{account['id']}", len(raw), passed_on), "body_raw": raw.decode(),
            "client_ip": address_text(int(self.world.address[row["network"]]), row["host"]),
            "conn": f"{row['connection']:016x}", "account": account, "response": response,
            "label": scenario.label, "scenario": scenario.id,
        }  # fmt: skip

    def account(self, row: dict[str, int]) -> dict[str, Any]:
        """What the directory says of the account."""
        world, number = self.world, row["account"]
        return {
            "id": f"{int(world.ids[number]):016x}", "org": f"{int(world.orgs[number]):016x}", "known": True,
            "age": f"{row['at'] - int(world.created[number])}us", "plan": world.plans[int(world.plan[number])],
            "payment": f"{int(world.cards[number]):016x}", "billing_country": COUNTRIES[int(world.home[number])],
        }  # fmt: skip
