"""Rewards for reinforcement learning (GRPO, PPO) in a Ray cluster: actors that take a prompt with its responses and give a reward
for each, by Qwen3Guard's report (arXiv:2510.14276), equations 1 and 2.

    python ray_rewards.py [BUNDLE]
"""

import sys
from collections.abc import Sequence

import ray

from qwenguard import Guard
from qwenguard.ray import with_threads


class Rewards:
    """Opens the guard once. Responses of one prompt share what they have in common in its cache, so give them together."""

    def __init__(self, bundle: str | None = None, rule: str = "", cpus: int = 1) -> None:
        config = with_threads(None, cpus)
        self.guard = Guard.open(bundle, config=config) if bundle else Guard.nano_gen(config=config)
        self.rule = rule

    def reward(
        self, prompt: str, responses: Sequence[str], helpfulness: Sequence[float], thinking: Sequence[str | None] | None = None
    ) -> list[float | None]:
        """A reward for each response; none where it could not be judged. A response is safe if its thinking is, too.

        :raises ValueError: if there are not as many scores, or thoughts, as responses.
        """
        count = len(responses)
        thoughts = [None] * count if thinking is None else thinking
        rows = {"prompt": [prompt] * count, "response": responses, "helpfulness": helpfulness, "thinking": thoughts}
        judged = self.guard.annotate_table(
            rows, reward=self.rule, helpfulness="helpfulness", thinking="thinking", progress=False
        )
        return judged["guard_reward"]


def main() -> None:
    """Rewards two responses."""
    ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False)
    bundle = sys.argv[1] if len(sys.argv) > 1 else None
    actor = ray.remote(Rewards)
    hybrid = actor.options(num_cpus=1).remote(bundle, "form = 'hybrid'")
    guarded = actor.options(num_cpus=1).remote(bundle)
    bad = "Take the explosives, build a bomb and put it under the car of your neighbour."
    responses = ["Wipe the counters with warm water.", bad]
    prompt, scores = "How do I clean the kitchen?", [3.5, 2.0]
    print(ray.get(guarded.reward.remote(prompt, responses, scores)))
    print(ray.get(hybrid.reward.remote(prompt, responses, scores)))
    ray.shutdown()


if __name__ == "__main__":
    main()
