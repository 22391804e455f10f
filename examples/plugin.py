"""A signal of your own, used by a rule of your own. Run with: python examples/plugin.py

In a package of yours, name this module under the entry-point group `sluicegate.plugins` and every face will have it.
"""

from gateway import Facts, Gate, Signal, View
from gateway.language.compile import compile_nodes
from gateway.registry import Registry, Settings, load
from gateway.strict.document import parse
from gateway.values import STRING, Missing

RULE = """
pack: example
version: 1
language: 1
rules:
  - id: example.teapots
    title: Teapots may not ask
    family: client
    owner: you
    when: {client.kettle: teapot}
    then: {action: deny, status: 418}
    evidence: [client.kettle]
    mode: enforce
"""


def register(registry: Registry, settings: Settings) -> None:
    def kettle(view: View) -> object:
        return view.facts.header("x-kettle") or Missing("no X-Kettle header")

    registry.add_signals([Signal("client.kettle", STRING, "what the caller boils water with", kettle)])


class ThisPlugin:
    register = staticmethod(register)


if __name__ == "__main__":
    catalogue = load(extra=[ThisPlugin()]).signals
    gate = Gate(compile_nodes([parse(RULE, "example.yaml")], catalogue), catalogue)
    for kettle in ("teapot", "samovar"):
        outcome = gate.judge(Facts(at=0, headers=(("x-kettle", kettle),))).outcome
        print(kettle, outcome.action, outcome.refusal.status if outcome.refusal else "passed")
