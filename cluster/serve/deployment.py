"""The model behind Ray Serve: replicas that answer questions about windows given by number."""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.progress import gather_responses
from cluster.ray_private import replicas_listen_on
from cluster.resources import Resources
from e2llm_core.evaluation.config import EvaluationPlan

if TYPE_CHECKING:
    from e2llm_core.evaluation.items import Forced, Request
    from e2llm_core.inference.predictor import Generated
    from e2llm_core.tasks.question import Question

_ATTEMPTS, _AGAIN_SECONDS = 3, 2.0
_TOKEN_BYTES = 4


class Replica:
    """One copy of the model.

    Parameters
    ----------
    plan : EvaluationPlan
        Absolute paths, of a store that this node reads, too.
    """

    def __init__(self, plan: EvaluationPlan) -> None:
        listen_on_this_node()
        from e2llm_core.evaluation.answers import ItemAnswerer

        self._answerer = ItemAnswerer(plan)

    def likelihood(self, question: "Question", request: "Request") -> np.ndarray:
        """Option probabilities (items, options)."""
        return self._answerer.likelihood(question, request)

    def generate(self, question: "Question", request: "Request") -> "list[Generated]":
        """Generated answers, one per item."""
        return self._answerer.generate(question, request)

    def forced(self, question: "Question", request: "Forced") -> np.ndarray:
        """Negative log-likelihoods (items, continuations) after each item's prefix, in nats."""
        return self._answerer.forced(question, request)


class ServeClient:
    """Asks the deployment, request by request, spread over its replicas: an `e2llm_core.evaluation.answers.Client`.

    Parameters
    ----------
    handle : DeploymentHandle
        Handle of the deployed :class:`Replica`.
    replicas : int
        Each has a request in work and one that waits.
    """

    def __init__(self, handle: Any, replicas: int) -> None:
        self._handle, self._in_flight = handle, 2 * replicas

    def likelihood(self, name: str, question: "Question", requests: "Sequence[Request]") -> Iterator[np.ndarray]:
        """Yield the probabilities of each request."""
        return gather_responses(name, self._handle.likelihood, question, requests, self._in_flight)

    def generate(self, name: str, question: "Question", requests: "Sequence[Request]") -> "Iterator[list[Generated]]":
        """Yield the generated answers of each request."""
        return gather_responses(name, self._handle.generate, question, requests, self._in_flight)

    def forced(self, name: str, question: "Question", requests: "Sequence[Forced]") -> Iterator[np.ndarray]:
        """Yield the negative log-likelihoods of each request."""
        return gather_responses(name, self._handle.forced, question, requests, self._in_flight)


@contextmanager
def deployed(plan: EvaluationPlan, run: str | Path, resources: Resources) -> Iterator[ServeClient]:
    """Host a model on the connected cluster while the block runs; handles only, no port is opened.

    Whatever else Ray Serve hosts there stays as it is: another run's evaluation, a service of
    :mod:`cluster.serve.http`.

    Parameters
    ----------
    plan : EvaluationPlan
        Which model is asked about which store. Absolute paths.
    run : str or Path
        Who asks. A job that goes on after ``kill -9`` replaces the replicas which that has left; one that ends late
        leaves those of its successor alone.
    resources : Resources
        Replicas, and what each reserves.
    """
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.exceptions import RayServeException

    prefix = f"e2llm-{sha256(str(run).encode()).hexdigest()[:12]}-"
    name = prefix + secrets.token_hex(_TOKEN_BYTES)
    options = {"num_cpus": resources.cpus_per_worker, "num_gpus": resources.gpus_per_worker}
    deployment: Any = serve.deployment(Replica)
    copies = deployment.options(num_replicas=resources.workers, ray_actor_options=options, max_ongoing_requests=1)
    try:
        yield ServeClient(_hosted(copies.bind(plan), name, prefix), resources.workers)
    finally:
        with suppress(RayServeException, RayActorError):  # somebody has ended Ray Serve, or does so now
            serve.delete(name)
            if not serve.status().applications:
                serve.shutdown()


def _hosted(application: Any, name: str, prefix: str) -> Any:
    """Host an application in place of all of this prefix.

    Another job may start Ray Serve, or take it down, at the same time.
    """
    from ray import serve
    from ray.exceptions import ActorAlreadyExistsError, RayActorError
    from ray.serve.config import ProxyLocation
    from ray.serve.exceptions import RayServeException

    for more in reversed(range(_ATTEMPTS)):
        try:
            serve.start(proxy_location=ProxyLocation.Disabled)
            for left in [other for other in serve.status().applications if other.startswith(prefix)]:
                serve.delete(left)
            return serve.run(application, name=name, route_prefix=None)
        except (ActorAlreadyExistsError, RayActorError, RayServeException):
            if not more:
                raise
            time.sleep(_AGAIN_SECONDS)


def listen_on_this_node() -> None:
    """In a replica, before it serves: bind its own server to the node's address. Ray Serve binds it to all of them."""
    import ray

    replicas_listen_on(ray.util.get_node_ip_address())
