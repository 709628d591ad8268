"""What usually holds keys: files by their names and their content, and texts. Pure; `payload.code` asks.

Code travels as Swarm configs, which everybody may read who may ask a manager. So what is listed here goes only where a
person has named it. The lists follow where common tools keep their credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import translate
from functools import lru_cache

HEAD_BYTES = 1 << 16  # of a file, that are looked at

_DIRECTORIES = frozenset(
    [
        *(".ssh", ".aws", ".azure", ".gnupg", ".kube", ".oci", ".pki"),
        *(".terraform", ".terraform.d", ".huggingface", ".kaggle", ".databricks", ".password-store"),
        *(".config/gh", ".config/gcloud", ".config/rclone", ".config/wandb", ".config/hub", ".config/op"),
        *(".cache/huggingface", ".local/share/keyrings"),
    ]
)
_FILES = (
    *(
        ".env",
        ".env.*",
        "*.env",
        ".envrc",
        ".netrc",
        "_netrc",
        ".pgpass",
        ".my.cnf",
        ".htpasswd",
        ".*_history",
    ),
    *(".npmrc", ".yarnrc.yml", ".pypirc", "pip.conf", ".condarc", ".git-credentials", ".gitconfig"),
    *(".dockercfg", ".dockerconfigjson", ".boto", ".s3cfg", ".vault-token", ".terraformrc", "*.tfstate"),
    *(
        "*.tfstate.*",
        "*.tfvars",
        "*.tfvars.json",
        "kubeconfig",
        "kubeconfig.*",
        "*.kubeconfig",
        "kaggle.json",
    ),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks"),
    *("*.keystore", "*.keytab", "*.ppk", "*.kdbx", "credentials", "client_secret*.json", "token.json"),
    *("service_account*.json", "service-account*.json", "*-credentials.json", "*_credentials.json"),
    *("token", "token.txt", ".token", "*.token", "hf_token*", ".hf_token*", "stored_tokens"),
    *("*apikey*", "*api_key*", "*api-key*", "*.tfrc.json"),
)
_DATA_NAMES = ("secret", "secrets", "credential", "credentials", ".secret", ".secrets", ".credentials")
_DATA_SUFFIXES = frozenset(["", ".json", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".csv", ".txt", ".enc"])
_PATHS = ("wandb/settings", ".docker/config.json")

_HARMLESS = (
    "*.pub",
    "*.example",
    "*.sample",
    "*.template",
    "*.dist",
    "*.example.*",
    "*.sample.*",
    "*.template.*",
)
_SOURCES = frozenset(
    [
        *(
            ".py",
            ".pyi",
            ".pyx",
            ".ipynb",
            ".sh",
            ".c",
            ".cc",
            ".cpp",
            ".cu",
            ".cuh",
            ".h",
            ".hpp",
            ".rs",
            ".go",
        ),
        *(".js", ".ts", ".java", ".md", ".rst", ".html"),
    ]
)

_IS_FILE, _IS_HARMLESS = (re.compile("|".join(map(translate, names))) for names in (_FILES, _HARMLESS))

# What editors and careful people make of a name: .env.swp, ..env.swp, .env~, #.env#, .#.env, .env.bak
_COPY = re.compile(r"(?:\.(?:sw[a-z]|un~|bak|old|orig|save|backup|copy|tmp)|~|#)+$", re.IGNORECASE)

_PRIVATE_KEY = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|^PuTTY-User-Key-File-", re.MULTILINE
)
_ACCOUNT = re.compile(rb'"type"\s*:\s*"(?:service_account|authorized_user|external_account)"')
_ACCOUNT_KEY = re.compile(rb'"(?:private_key|refresh_token|client_secret)"\s*:')
_TOKEN = re.compile(
    rb"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{50,}|glpat-[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    rb"|sk-[A-Za-z0-9_-]{32,}|xox[abprs]-[A-Za-z0-9-]{20,}|AIza[\w-]{35}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,})"
)
# What is somewhere in all that these two find.
_MARKS = (
    *(b"hf_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"AKIA", b"ASIA"),
    *(b"sk-", b"xox", b"AIza", b"npm_", b"pypi-", b"PRIVATE KEY", b"PuTTY-User-Key-File-"),
)
_FLAG = re.compile(
    r"--?(?:[\w-]*[-_])?(?:password|passwd|secret|token|api[-_]?key|access[-_]?key)", re.IGNORECASE
)
_VALUE = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[!-~]{8,}")  # not <pad>, and no number


def is_key_directory(path: str) -> bool:
    """Whether all that lies in a directory is best not touched."""
    parts = path.lower().split("/")
    return any("/".join(parts[-length:]) in _DIRECTORIES for length in range(1, 4))


def is_key_name(path: str) -> bool:
    """Whether a file holds keys, by its path below the job's directory."""
    path = path.lower()
    directory, _, name = path.rpartition("/")
    if _lies_among_keys(directory) or path.endswith(_PATHS):
        return True
    if directory.rpartition("/")[2] in _DATA_NAMES and not is_source(path):
        return True
    return any(map(_is_key, _originals(name)))


@lru_cache  # a directory has many files
def _lies_among_keys(directory: str) -> bool:
    """Whether it, or one that it lies in, is such a directory."""
    return bool(directory) and (is_key_directory(directory) or _lies_among_keys(directory.rpartition("/")[0]))


def is_key_content(path: str, head: bytes) -> bool:
    """Whether a file that is no source holds a private key, an account's credentials, or a token and nothing else."""
    if is_source(path):
        return False
    if _PRIVATE_KEY.search(head) or (_ACCOUNT.search(head) and _ACCOUNT_KEY.search(head)):
        return True
    return _TOKEN.fullmatch(head.strip()) is not None


def holds_token(content: bytes) -> bool:
    """Whether somewhere in it is what looks like an access token, or a private key."""
    if not any(mark in content for mark in _MARKS):  # of most files that is all, and a third of the time
        return False
    return bool(_TOKEN.search(content) or _PRIVATE_KEY.search(content))


def is_source(path: str) -> bool:
    """Whether a file is code or prose, which is sent even where it mentions a key."""
    return _split(path.lower().rpartition("/")[2])[1] in _SOURCES


def suspicious_arguments(arguments: tuple[str, ...]) -> list[str]:
    """The arguments that look like keys, named so that they can be shown: by their flag, or by their first letters."""
    found = []
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        value = value if equals else "".join(arguments[index + 1 : index + 2])
        if _FLAG.fullmatch(flag) and _VALUE.fullmatch(value):
            found.append(flag)
        elif holds_token(argument.encode(errors="surrogateescape")):
            found.append(flag if equals else f"{argument[:4]}...")
    return found


def _is_key(name: str) -> bool:
    stem, suffix = _split(name)
    if suffix in _SOURCES or _IS_HARMLESS.match(name):
        return False
    return bool(_IS_FILE.match(name)) or (stem in _DATA_NAMES and suffix in _DATA_SUFFIXES)


def _split(name: str) -> tuple[str, str]:
    """Stem and suffix, as pathlib has them."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")


def _originals(name: str) -> Iterator[str]:
    """The name, and what it is a copy of: ``..env.swp`` is one of ``.env``."""
    yield name
    original = _COPY.sub("", name)
    if original != name or name.startswith((".#", "#")):
        original = original.lstrip("#").removeprefix(".#")
        yield original
        if original.startswith("."):
            yield original[1:]
