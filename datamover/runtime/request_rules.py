"""The rules of the runtime in force that a client's request is checked by."""

from collections.abc import Callable, Collection

from datamover.errors import DataMoverError, Unavailable
from datamover.requests.datasets import Datasets
from datamover.requests.files import Rules
from datamover.runtime.snapshot import Runtime
from datamover.web.url import WebUrl


def request_rules(
    runtime: Runtime,
    owner: str,
    *,
    destinations: Collection[str] | None = None,
    datasets: Collection[str] | None = None,
    check_source: Callable[[WebUrl], None] = lambda _: None,
) -> Rules:
    """Return the rules for requests of ``owner``, who may use these ``destinations`` and ``datasets``; None: all.

    ``check_source`` raises SourceNotAllowed for a URL that the owner may not name, beside what ``[sources]`` refuses.
    """

    def read_url(text: str) -> WebUrl:
        url = WebUrl.parse(text)
        check_source(url)
        if not runtime.policy.allows(url):
            runtime.policy.check_url(text)
        try:
            runtime.credentials.header_for(url)
        except DataMoverError as error:
            what = "the login that datamover has for this source cannot be used: ask the administrator"
            raise Unavailable(what, full=error.full) from None
        return url

    def check_notice(url: str) -> None:
        runtime.notice_secrets.check(owner)
        check_source(WebUrl.parse(url))
        runtime.policy.check_url(url)

    limits = runtime.settings.limits
    return Rules(
        owner=owner,
        destinations=runtime.registry.longest_names,
        permitted=destinations,
        read_url=read_url,
        max_files=limits.files,
        max_attempts=runtime.settings.transfers.max_attempts,
        datasets=Datasets(runtime.datasets.by_scheme, datasets),
        check_notice=check_notice,
        longest_url=limits.url,
    )
