# The workflow and all that it needs, from a clean checkout:
#   docker build --tag unetpipe .                         # for CPUs
#   docker build --tag unetpipe --build-arg TORCH=cuda .  # NVIDIA GPUs too; 5 GB more
#   docker run --rm --user "$(id -u)" --volume "$PWD:/data" unetpipe
# workflow/envs/unetpipe.def makes the same for Apptainer.
FROM python:3.11-slim-bookworm

ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/unetpipe

# torch first: the largest layer, which edits of the code leave as it is.
COPY constraints.txt ./
RUN if [ "$TORCH" = cuda ]; then index=; \
    else index="--extra-index-url https://download.pytorch.org/whl/cpu"; fi; \
    pip install --only-binary :all: --constraint constraints.txt $index torch

# The workflow lies in /usr/local/share/unetpipe then, as an installed wheel's does.
COPY pyproject.toml README.md LICENSE ./
COPY unetpipe unetpipe
COPY workflow workflow
COPY scripts scripts
COPY config config
RUN pip install --prefer-binary --constraint constraints.txt ".[formats]" \
    && rm -rf build

# Whoever runs it: nothing is written but in /data and /tmp.
RUN useradd --create-home unetpipe && install --directory --mode 1777 /data
USER unetpipe
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
CMD ["snakemake", "--snakefile", "/usr/local/share/unetpipe/workflow/Snakefile"]
