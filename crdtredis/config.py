"""The configuration in force: what the sources give (sources.py) for the settings that are declared
(settings.py), each of its kind (kinds.py).

Where does a setting's value come from, what may it be, and what happens when it changes? SETTINGS
says so in one place. From it come the JSON file's validation, the command line flags, the
environment variables, CONFIG GET/SET/REWRITE, GET and PATCH /config, --generate-config, --help and
packaging/settings.md. A setting that is not declared there does not exist.

Precedence: flag, environment, file, default. A wrong value stops the start; all faults are reported
together, one line each: the setting, where the value came from, what was expected. Environment
variables that begin with CRDT_ but name no setting are no fault (other programs and build scripts
own some); they are returned as warnings.

Values in memory: durations are integers in nanoseconds, sizes in bytes, lists are tuples. In the
file a duration is an integer or a string such as "250ms"; an integer counts nanoseconds, except for
settings taken over from Redis (`timeout`, `tcp_keepalive`), where it counts seconds as it does
there. In CONFIG GET/SET a setting goes by Redis's name where Redis has one ("maxmemory"), else by
its own with dashes; both are understood with dashes or underscores.

Changes at run time: `change` checks everything first, then stores all values, then tells the
observers. An observer that raises ValueError undoes the whole change. Observers run in the thread
that changes; the server's hand over to the engine.

Secrets need stand neither in the file nor on the command line: `requirepass_file` and
`auth_token_file` name files that hold nothing else, and credentials of systemd by these settings'
names are found by themselves ($CREDENTIALS_DIRECTORY). A secret given outright goes before both.

Safe by default: listening on anything but loopback needs `requirepass` (clients) and `auth_token`
(peers), or `protected_mode` off.
"""
from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crdtredis import redisconf
from crdtredis.kinds import NS, is_loopback
from crdtredis.settings import (BY_NAME, BY_PUBLIC, BY_VARIABLE, CONFIG_VARIABLE, MASK, SETTINGS)
from crdtredis.sources import (ConfigError, Fault, near, parse_json, parse_redis_conf, read_text,
                               read_value, unknown)

Observer = Callable[[str, Any], None]
# in CONFIG GET: what opens more than a Redis of this user's (monitoring has +config|get)
MASKED = ("auth_token", "operator_token", "metrics_token", "redis_password", "users")


@dataclass
class Config:
    """The values in force. Read them as attributes; durations also by seconds() and ms()."""

    values: dict[str, Any] = field(default_factory=lambda: {s.name: s.initial for s in SETTINGS})
    # setting -> origin, for those that are not defaults
    origins: dict[str, str] = field(default_factory=dict)
    file: str | None = None
    warnings: list[str] = field(default_factory=list)
    _observers: list[tuple[frozenset[str], Observer]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(f"no setting {name}") from None

    @classmethod
    def of(cls, **values: Any) -> Config:
        """Defaults but for these, given as in the JSON file; for tests and embedded use. Raises
        ConfigError."""
        return cls.load(settings=values)

    @classmethod
    def load(cls, flags: Mapping[str, tuple[str, str]] | None = None,
             environ: Mapping[str, str] | None = None, file: str | None = None,
             settings: Mapping[str, Any] | None = None, faults: Iterable[Fault] = ()) -> Config:
        """Put the sources together, or raise ConfigError with every fault, those given included.

        flags: what parse_flags returned. settings: an object as the file would hold it, used in the
        file's place.
        """
        config, found = cls(file=file), list(faults)
        # setting -> (raw value, origin, is text)
        given: dict[str, tuple[Any, str, bool]] = {}
        if file is not None:
            try:
                text = read_text(file)
                if redisconf.is_redis_conf(file, text):
                    texts, config.warnings = parse_redis_conf(text, file)
                    given = {name: (raw, where, True) for name, (raw, where) in texts.items()}
                else:
                    settings = parse_json(text, file)
            except ConfigError as e:
                found += e.faults
        origin = f"file {file}" if file is not None else "settings"
        for name, raw in (settings or {}).items():
            if name in BY_NAME:
                given[name] = (raw, origin, False)
            elif not name.startswith("_"):
                hint = BY_PUBLIC.get(name.replace("_", "-"))
                found.append(Fault(name, origin, f"no such setting (here it is {hint.name})",
                                   "unknown") if hint
                             else unknown(name, origin, BY_NAME))
        for variable, raw in (environ or {}).items():
            if variable in BY_VARIABLE:
                given[BY_VARIABLE[variable].name] = (raw, f"environment {variable}", True)
            elif variable.startswith("CRDT_") and variable != CONFIG_VARIABLE:
                config.warnings.append(f"environment {variable}: no such "
                                       f"setting{near(variable, BY_VARIABLE)}; ignored")
        for name, (raw, flag) in (flags or {}).items():
            given[name] = (raw, f"flag {flag}", True)
        for name, (raw, where, text) in given.items():
            count = len(found)
            value = read_value(BY_NAME[name], raw, where, found, text)
            if len(found) == count:
                config.values[name] = BY_NAME[name].kind.over(value, config.values[name])
                config.origins[name] = where
        if (file is not None
            and any(s.secret and config.values[s.name] and config.origin(s.name).startswith("file ")
                    for s in SETTINGS)):
            config._warn_if_open(file)
        # Redis takes it from its `dir`
        inside = os.path.join(config.data_dir, config.aclfile)
        if config.aclfile and not os.path.exists(config.aclfile) and os.path.exists(inside):
            config.values["aclfile"] = inside
        config._read_secrets(environ or {}, found)
        if (not config.enable_tls and not config.tls_port
                and (config.tls_cert_file or config.tls_key_file)):
            config.warnings.append("tls_cert_file and tls_key_file have no effect, since "
                                   "enable_tls is off and there is no tls_port: all is in the "
                                   "clear")
        tokens = [config.auth_token]
        for name in ("operator_token", "metrics_token"):        # not to be changed later
            if config.values[name] and config.values[name] in tokens:
                config.warnings.append(f"{name}: another token is the same, so it opens all that "
                                       "the other does")
            tokens.append(config.values[name])
        found += config._together(config.values)
        if found:
            raise ConfigError(found)
        return config

    def _read_secrets(self, environ: Mapping[str, str], faults: list[Fault]) -> None:
        for s in SETTINGS:
            setting = f"{s.name}_file"
            if not s.secret or setting not in BY_NAME:
                continue
            path, origin = self.values[setting], self.origin(setting)
            if not path:
                path, origin = os.path.join(environ.get("CREDENTIALS_DIRECTORY", ""),
                                            s.name), "systemd credential"
                if "CREDENTIALS_DIRECTORY" not in environ or not os.path.exists(path):
                    continue
            if self.values[s.name]:
                self.warnings.append(f"{setting} ({origin}): not read, since {s.name} "
                                     f"({self.origin(s.name)}) is given")
                continue
            try:
                with open(path, "rb") as f:
                    text = f.read(4097).decode("utf-8", "surrogateescape")
            except OSError as e:
                faults.append(Fault(setting, origin,
                                    f"{path} cannot be read: {os.strerror(e.errno or 0)}"))
                continue
            text = text.removesuffix("\n").removesuffix("\r")
            value = read_value(s, text, f"file {path}", faults, text=True)
            if value == "":
                faults.append(Fault(setting, origin, f"{path} is empty"))
            elif value:
                self.values[s.name], self.origins[s.name] = value, f"file {path}"
                self._warn_if_open(path)

    def _warn_if_open(self, path: str) -> None:
        if os.stat(path).st_mode & 0o007:
            self.warnings.append(f"file {path}: it holds a secret, and everybody on this machine "
                                 f"may read it (chmod o= {path})")

    # -- reading --

    def seconds(self, name: str) -> float:
        return self.values[name] / NS["s"]

    def ms(self, name: str) -> int:
        """A duration in whole milliseconds, at least 1 where it is not 0."""
        return -(-self.values[name] // NS["ms"])

    def origin(self, name: str) -> str:
        return self.origins.get(name, "default")

    @property
    def http_addresses(self) -> tuple[str, ...]:
        return self.http_bind or self.bind

    @property
    def peer_urls(self) -> tuple[str, ...]:
        """The peers, each once, as URLs without a slash at the end; one given as host:port gets
        https when TLS is on."""
        scheme = "https" if self.enable_tls else "http"
        return tuple(dict.fromkeys((peer if "://" in peer else f"{scheme}://{peer}").rstrip("/")
                                   for peer in self.peers))

    @property
    def advertised_url(self) -> str:
        scheme = "https" if self.enable_tls else "http"
        url = self.advertise.rstrip("/")
        return url if not url or "://" in url else f"{scheme}://{url}"

    def get(self, patterns: Sequence[str], matches: Callable[[str, str], bool]) -> dict[str, str]:
        """CONFIG GET: glob patterns, in any case and with dashes or underscores -> {name: text}.
        Each setting once, under the spelling that matched: Redis's name, else its own. The data
        directory and passwords are shown, as in Redis, but for MASKED. matches(pattern, name)
        knows globs; it is not asked about mere names."""
        asked, folded = set(patterns), {p.lower().replace("_", "-") for p in patterns}
        globs = [p for p in folded if is_glob(p)]
        shown: dict[str, str] = {}
        for s in SETTINGS:
            for name in (s.public, s.name, *s.aliases):
                dashed = name.replace("_", "-")
                if dashed in folded or any(matches(g, dashed) for g in globs):
                    text = s.kind.to_text(self.values[s.name])
                    if s.name in MASKED and text:
                        text = MASK
                    shown[name if name == s.public or name in asked else dashed] = (
                        os.path.abspath(text) if s.name == "data_dir" else text)
                    break
        return shown

    def as_json(self) -> dict[str, Any]:
        """GET /config: every setting by its own name, secrets masked."""
        return {s.name: s.show(self.values[s.name]) for s in SETTINGS}

    # -- changing --

    def observe(self, names: Iterable[str], observer: Observer) -> None:
        """observer(name, value) is called after a change of one of these settings; ValueError with
        a reason undoes the change."""
        names = frozenset(names)
        assert all(BY_NAME[n].live for n in names), names
        self._observers.append((names, observer))

    def set_texts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """CONFIG SET: all or nothing. Names as in `get`. Raises ConfigError; each fault's `setting`
        is the name as given."""
        given = {}
        faults: list[Fault] = []
        for name, text in pairs:
            setting = BY_PUBLIC.get(name.lower().replace("_", "-"))
            if setting is None:
                faults.append(unknown(name, "CONFIG SET", BY_PUBLIC))
            elif setting.name in given:
                faults.append(Fault(name, "CONFIG SET", "duplicate parameter"))
            else:
                given[setting.name] = (name, text)
        self._change(given, "CONFIG SET", faults, text=True)

    def patch(self, settings: Mapping[str, Any]) -> None:
        """PATCH /config: {name: JSON value}, all or nothing. A masked secret, as as_json shows it,
        changes nothing. Raises ConfigError."""
        given = {}
        faults: list[Fault] = []
        for name, value in settings.items():
            if name not in BY_NAME:
                faults.append(unknown(name, "PATCH /config", BY_NAME))
            elif not (BY_NAME[name].secret and value == MASK):
                given[name] = (name, value)
        self._change(given, "PATCH /config", faults, text=False)

    def _change(self, given: Mapping[str, tuple[str, Any]], origin: str, faults: list[Fault],
                text: bool) -> None:
        new: dict[str, Any] = {}
        for name, (spelling, raw) in given.items():
            setting, found = BY_NAME[name], []
            value = read_value(setting, raw, origin, found, text)
            if found:
                faults.append(Fault(spelling, origin, found[0].problem))
                continue
            value = setting.kind.over(value, self.values[name])
            if value != self.values[name] or setting.reference:
                if setting.live:
                    new[name] = value
                else:
                    faults.append(Fault(spelling, origin, "cannot change while the server runs",
                                        "fixed"))
        if not faults:
            faults += [f for f in self._together({**self.values, **new})
                       if f not in self._together(self.values)]
        if faults:
            raise ConfigError(faults)
        old = {name: self.values[name] for name in new}
        self.values.update(new)
        told: list[tuple[Observer, str]] = []
        try:
            for observer, name in self._tells(new):
                told.append((observer, name))
                observer(name, new[name])
        except ValueError as e:
            self.values.update(old)
            for observer, name in told:
                with contextlib.suppress(ValueError):   # its file may have changed: it has the old
                    observer(name, old[name])
            raise ConfigError([Fault(given[name][0], origin, str(e))]) from None
        except Exception:
            # an observer's own fault: what it did not bring into force is not shown as if it were
            self.values.update(old)
            raise
        self.origins.update(dict.fromkeys((n for n in new if new[n] != old[n]), origin))

    def _tells(self, changed: Mapping[str, Any]) -> list[tuple[Observer, str]]:
        return [(observer, name) for names, observer in self._observers
                for name in changed if name in names]

    def rewrite(self, users: tuple[str, ...] | None = None) -> None:
        """CONFIG REWRITE: put what was changed at run time into the file, leaving its order and
        comments, and these users in the place of those it has. ValueError without a file."""
        if self.file is None:
            raise ValueError("the server is running without a config file")
        changed = [s for s in SETTINGS if self.origin(s.name) in ("CONFIG SET", "PATCH /config")]
        text = read_text(self.file)
        if redisconf.is_redis_conf(self.file, text):
            text = redisconf.rewrite(text,
                                     {s.name: (s.directives, s.words(self.values[s.name]))
                                      for s in changed}, users)
        else:
            data = parse_json(text, self.file)
            data.update({s.name: s.kind.to_json(self.values[s.name]) for s in changed})
            if users or (users is not None and "users" in data):
                data["users"] = list(users)
            text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        path = os.path.realpath(self.file)
        mode = os.stat(path).st_mode & 0o777
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w",
                      encoding="utf-8",
                      errors="surrogateescape") as f:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)

    # -- settings that must go together --

    def _together(self, v: Mapping[str, Any]) -> list[Fault]:
        faults: list[Fault] = []

        def fault(name: str, problem: str) -> None:
            faults.append(Fault(name, self.origin(name), problem, "together"))

        if v["server_port"] == v["tls_port"] == 0 and not v["unixsocket"]:
            fault("server_port", "expected a port, since there is no unixsocket either")
        for name, other in (("http_port", "server_port"), ("http_port", "tls_port"),
                            ("tls_port", "server_port")):
            if v[name] and v[name] == v[other]:
                fault(name, f"expected another port than {other}, not {v[name]}")
        if v["peers"] and not v["http_port"]:
            fault("http_port", "expected a port, since there are peers")
        if v["enable_tls"] or v["tls_port"]:
            why = "enable_tls is on" if v["enable_tls"] else "there is a tls_port"
            for name in ("tls_cert_file", "tls_key_file"):
                if not os.access(v[name] or "-", os.R_OK):
                    fault(name,
                          f"expected a readable PEM file, since {why}, not "
                          f"{json.dumps(v[name])}")
        if (v["tls_port"] and v["tls_auth_clients"] != "no" and not v["tls_ca_file"]
                and not v["tls_ca_cert_dir"]):
            fault("tls_ca_file", "expected the authorities of clients' certificates, since "
                                 f"tls_auth_clients is {v['tls_auth_clients']} (no: clients need "
                                 "none)")
        if v["tls_ca_file"] and not os.access(v["tls_ca_file"], os.R_OK):
            fault("tls_ca_file",
                  f"expected a readable PEM file, not {json.dumps(v['tls_ca_file'])}")
        if bool(v["tls_client_cert_file"]) != bool(v["tls_client_key_file"]):
            fault("tls_client_key_file", "expected tls_client_cert_file and its key, or neither")
        if v["tls_auth_peers"] != "no":
            for name, what in (("enable_tls", "on"), ("tls_ca_file", "the authorities of peers")):
                if not v[name]:
                    fault(name, f"expected {what}, since tls_auth_peers is {v['tls_auth_peers']}")
        elif v["tls_peer_names"]:
            fault("tls_peer_names", "expected tls_auth_peers as well, since all would be let in")
        for name in ("operator_token", "metrics_token"):
            if v[name] and not v["auth_token"]:
                fault(name, "expected auth_token as well, since all else would stand open")
        if v["aclfile"] and v["users"]:
            fault("aclfile", "expected nothing, since there are users as well")
        if v["protected_mode"]:
            for port, binding, addresses, secret in (("server_port" if v["server_port"]
                                                      else "tls_port", "bind", v["bind"],
                                                      "requirepass"),
                                                     ("http_port", "http_bind" if v["http_bind"]
                                                      else "bind",
                                                      v["http_bind"] or v["bind"], "auth_token")):
                outside = [a for a in addresses if not is_loopback(a)]
                # whether users have passwords is looked at once they are read
                users = secret == "requirepass" and (v["aclfile"] or v["users"])
                if v[port] and outside and not v[secret] and not users:
                    fault(secret,
                                  f"expected a value, since {binding} opens "
                                  f"{outside[0].lstrip('-')} to other machines "
                                  "(or turn protected_mode off)")
        return faults


def is_glob(pattern: str) -> bool:
    """Whether it may match anything but itself."""
    return any(c in pattern for c in "*?[\\")
