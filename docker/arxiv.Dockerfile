# The platform's HTTP service with all libraries of the platform, for compose.arxiv.yaml. It migrates the database and then
# serves. Build it with the root folder as context.
FROM python:3.11-slim-bookworm AS build
WORKDIR /service
RUN pip install --no-cache-dir uv==0.13.8
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-install-project --compile-bytecode --no-cache
COPY LICENSE README.md ./
COPY platform_assets platform_assets
RUN uv pip install --no-cache --no-deps --compile-bytecode .

FROM python:3.11-slim-bookworm
RUN useradd --system --no-create-home --uid 10001 service \
    && install --directory --owner=service /home/platform
COPY --from=build /service/.venv /service/.venv
# HOME and MPLCONFIGDIR: libraries keep caches, and the rest of the file system is read-only.
ENV PATH=/service/.venv/bin:$PATH \
    PLATFORM_HOME=/home/platform \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
VOLUME /home/platform
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
# `exec` replaces the shell, so that the service receives the signals.
CMD ["sh", "-c", "platform-assets migrate && exec platform-assets serve --host 0.0.0.0"]
