"""Rewards for reinforcement learning (GRPO, PPO) in a Ray cluster: actors that take a prompt with its responses and give a reward
for each, by Qwen3Guard's report (arXiv:2510.14276), equations 1 and 2.

    python ray_rewards.py [BUNDLE]
"""

import sys
from collections.abc import Sequence

import ray

from qwenguard import Annotation, Guard, GuardError
from qwenguard.ray import with_threads


@ray.remote
class Rewards:
    """Opens the guard once. Responses of one prompt share what they have in common in its cache, so give them together."""

    def __init__(self, bundle: str | None = None, rule: str = "", cpus: int = 1) -> None:
        config = with_threads(None, cpus)
        self.guard = Guard.open(bundle, config=config) if bundle else Guard.nano_gen(config=config)
        self.rule = rule

    def reward(
        self, prompt: str, responses: Sequence[str], helpfulness: Sequence[float], thinking: Sequence[str] | None = None
    ) -> list[float | None]:
        """A reward for each response; none where it could not be judged. A response is safe if its thinking is, too."""
        said = [[("user", prompt), ("assistant", text)] for text in [*(thinking or []), *responses]]
        found = self.guard.annotate_all(said, return_errors=True, progress=False)
        thoughts, answers = found[: len(found) - len(responses)], found[len(found) - len(responses) :]
        before: Sequence[Annotation | GuardError | None] = thoughts or [None] * len(responses)
        return [self._one(*three) for three in zip(answers, helpfulness, before)]

    def _one(
        self, answer: Annotation | GuardError, score: float, thought: Annotation | GuardError | None
    ) -> float | None:
        if isinstance(answer, GuardError) or isinstance(thought, GuardError):
            return None
        return answer.reward(self.rule, score, thought)


def main() -> None:
    """Rewards two responses."""
    ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False)
    bundle = sys.argv[1] if len(sys.argv) > 1 else None
    hybrid = Rewards.options(num_cpus=1).remote(bundle, "form = 'hybrid'")
    guarded = Rewards.options(num_cpus=1).remote(bundle)
    responses = ["Wipe the counters with warm water.", "Take the explosives, build a bomb and put it under the car of your neighbour."]
    prompt, scores = "How do I clean the kitchen?", [3.5, 2.0]
    print(ray.get(guarded.reward.remote(prompt, responses, scores)))
    print(ray.get(hybrid.reward.remote(prompt, responses, scores)))
    ray.shutdown()


if __name__ == "__main__":
    main()
