# The sentence relevance service alone, for Cloud Run and anything else that runs a container and names a port in PORT:
# the platform's own application with one router, and a model that was approved and exported with the proof of that.
# No database, no lake, no state. It sits at the root because that is where the Cloud Run button looks; the platform's
# other images have nothing to do with it. Python 3.11, for with it the lock gives the libraries that trained the model.
FROM python:3.11-slim-bookworm AS build
WORKDIR /service
RUN pip install --no-cache-dir uv==0.13.8
COPY pyproject.toml uv.lock ./
# Only what serving needs, in the versions of the lock: a third of the platform's libraries.
RUN uv sync --frozen --only-group serve --no-install-project --compile-bytecode --no-cache
COPY LICENSE README.md ./
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
# The shell only turns Cloud Run's name of the port into ours; the service takes its place and gets its signals.
CMD ["sh", "-c", "PLATFORM_SERVICE_PORT=$PORT exec platform-assets serve --host 0.0.0.0"]
