# The sentence relevance service alone, for Cloud Run and other hosts that run a container and pass the port in PORT. It is
# the platform's HTTP application with one exported model and the record of its approval. It needs no database and no lake,
# and it keeps no state. This file is in the root folder because the Cloud Run button looks for it there. The image uses
# Python 3.11, because for 3.11 the lock file has the library versions that trained the model.
FROM python:3.11-slim-bookworm AS build
WORKDIR /service
RUN pip install --no-cache-dir uv==0.13.8
COPY pyproject.toml uv.lock ./
# Only the libraries for serving, in the versions of the lock file: a third of the platform's libraries.
RUN uv sync --frozen --only-group serve --no-install-project --compile-bytecode --no-cache \
    && find .venv/lib -type d \( -name tests -o -name include \) -prune -exec rm -rf {} +
COPY LICENSE README.md dagster.yaml workspace.yaml ./
COPY platform_assets platform_assets
RUN uv pip install --no-cache --no-deps --compile-bytecode .

FROM python:3.11-slim-bookworm
RUN useradd --system --no-create-home --uid 10001 service
COPY --from=build /service/.venv /service/.venv
COPY docker/sentence_relevance /service/bundle
ENV PATH=/service/.venv/bin:$PATH \
    PLATFORM_ENV=production \
    PLATFORM_SOURCES=live \
    PLATFORM_BUNDLE=/service/bundle \
    PLATFORM_HOME=/tmp/platform \
    PORT=8080 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/ready', timeout=4)"]
# The shell maps PORT to the platform's variable. `exec` replaces the shell, so that the service receives the signals.
CMD ["sh", "-c", "PLATFORM_SERVICE_PORT=$PORT exec platform-assets serve --host 0.0.0.0"]
