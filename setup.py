"""Packaging: what is shipped, and what it needs. Exact versions are in constraints.txt."""

from setuptools import setup

SERVE = [
    "aiohttp>=3.14,<3.15",
    "aiohttp-jwt==0.6.1",
    "environs>=15.2",
    "limits>=5.8",
    "msgspec>=0.22",
    "prometheus-client>=0.26",
    "pyjwt[crypto]>=2.15",
    "python-dotenv>=1.2",
    "python-json-logger>=4.2",
    "redis>=8.1",
    "uvloop>=0.23",
]
BENCH = ["fastapi>=0.110", "uvicorn[standard]>=0.30"]
FLEET = ["gunicorn>=27"]
DOCS = ["flask-swagger-ui>=5.34"]
DEVELOP = [
    "aioresponses>=0.7.9",
    "hypothesis>=6.170",
    "joserfc>=1.8",
    "jsonschema>=4.26",
    "locust>=2.47",
    "kubernetes-validate>=1.33",
    "mypy>=2.4",
    "openapi-spec-validator>=0.9",
    "playwright>=1.60",
    "pytest>=9.2",
    "pytest-aiohttp>=1.1.1",
    "pytest-cov>=7.1",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.8",
    "pyyaml>=6",
    "ruff>=0.17",
    "schemathesis>=4.32",
]

setup(
    name="vapi-sessions",
    version="1.0.0",
    description="A patient's token in, Vapi configuration out: a session-credential broker",
    python_requires=">=3.11",
    packages=["server", "middlewares"],
    install_requires=SERVE,
    extras_require={"bench": BENCH, "docs": DOCS, "fleet": FLEET, "develop": DEVELOP},
    entry_points={"console_scripts": ["vapi-sessions=server.commands:main"]},
)
