"""What gin says where there is no route: 404, 405 with the methods there are, a redirect off a trailing slash."""

import re

from aiohttp import web

_ORDER = ("HEAD", "GET", "POST", "DELETE")
"""In which gin lists methods: Ollama registers HEAD before GET."""
_PLAIN = {"Content-Type": "text/plain"}


class Unrouted:
    """Answers whatever no route before it takes."""

    def __init__(self, application: web.Application) -> None:
        self._paths = [(_pattern(each), {route.method for route in each}) for each in application.router.resources()]
        application.router.add_route("*", "/{anything:.*}", self._answer)

    def allow(self, request: web.Request) -> dict[str, str]:
        """The `Allow` header where the path exists but not with this method; empty where it does or the path does not.

        gin writes it before its middlewares run, so a refusal by one of them carries it too.
        """
        methods = self._methods_of(request.rel_url.raw_path)
        return {"Allow": ", ".join(methods)} if methods and request.method not in methods else {}

    def _methods_of(self, path: str) -> list[str]:
        allowed = {method for pattern, methods in self._paths if pattern.fullmatch(path) for method in methods}
        return [method for method in _ORDER if method in allowed]

    async def _answer(self, request: web.Request) -> web.Response:
        if self.allow(request):
            return web.Response(status=405, body=b"405 method not allowed", headers=_PLAIN)
        path = request.rel_url.raw_path
        if path != "/" and path.endswith("/") and request.method in self._methods_of(path[:-1]):
            return _moved(request, path[:-1])
        return web.Response(status=404, body=b"404 page not found", headers=_PLAIN)


def _pattern(resource: web.AbstractResource) -> re.Pattern[str]:
    info = resource.get_info()
    return info["pattern"] if "pattern" in info else re.compile(re.escape(info["path"]))


def _moved(request: web.Request, path: str) -> web.Response:
    if request.method != "GET":
        return web.Response(status=307, headers={"Location": path})
    text = f'<a href="{path}">Moved Permanently</a>.\n\n'
    return web.Response(status=301, text=text, headers={"Location": path, "Content-Type": "text/html; charset=utf-8"})
