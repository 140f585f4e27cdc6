"""Whether a guess of what comes next may be acted on: only where such guesses have come true, lately.

Each group carries the model that was expected before it came (`foresee.expected`). Chance cannot be guessed, but every
past can be searched until something in it looks like a pattern; what tells the two apart is how the guesses turned out.
"""

from policies.world import World

LATELY = 32  # groups
COMMONEST = 0.3  # share of them that must have been guessed beyond what the commonest model alone explains
BEYOND = 2  # groups, at least
TURNS = 20  # turns from one model to another, of the last FAR groups
FAR = 120
RIGHT = 5  # of them, at least
SHARE = 0.7  # of them, one more counted as wrong


def groups(world: World) -> bool:
    """Whether what was expected came clearly more often than what comes most often anyway."""
    last = [group for group in world.groups[-LATELY:] if group.expected]
    if not last:
        return False
    tops = [group.top for group in last]
    right = sum(group.expected == top for group, top in zip(last, tops, strict=True))
    return right - max(map(tops.count, set(tops))) >= max(BEYOND, COMMONEST * len(last))


def turns(world: World) -> bool:
    """Whether most of the last turns from one model to another were expected."""
    past = world.groups
    right = seen = 0
    for i in range(len(past) - 1, max(0, len(past) - 1 - FAR), -1):
        if past[i].expected and past[i].top != past[i - 1].top:
            seen += 1
            right += past[i].expected == past[i].top
            if seen == TURNS:
                break
    return right >= RIGHT and right >= SHARE * (seen + 1)
