# apmctl for the CPU; docs/docker.md says how to use it.
FROM python:3.11-slim

# torch.compile needs a C++ compiler; without one everything works, only slower.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

# PyTorch's CPU build; both parts from one place, and first, so that pip keeps them.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY apmctl apmctl
COPY apmctl_core apmctl_core
RUN pip install --no-cache-dir .

# Any user may run it (--user): caches need a home and a name, which an unknown user lacks.
ENV APMCTL_HOME=/store HOME=/tmp USER=apmctl
WORKDIR /work
ENTRYPOINT ["apmctl"]
CMD ["--help"]
