# One image for bootstrap, peer and gateway; compose.yaml runs them.
#
#   docker build -t homeswarm .
#   docker build -t homeswarm --build-arg TORCH_INDEX=https://pypi.org/simple .
#
# TORCH_INDEX is where torch comes from: its build for CPUs, which is much smaller, or PyPI's own for
# CUDA (https://pytorch.org/get-started/locally/ names others).

ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# For the compiled code with which peers decode on a CPU.
RUN apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/homeswarm
ENV PATH=/opt/homeswarm/bin:$PATH
WORKDIR /source
# What it depends on, in a layer that outlasts changes of the code.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; \
print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > needed.txt \
    && pip install --quiet --no-cache-dir --extra-index-url "${TORCH_INDEX}" \
        --constraint constraints.txt --requirement needed.txt
COPY . .
RUN pip install --quiet --no-cache-dir --no-deps .

FROM ${PYTHON_IMAGE}
RUN apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 swarm \
    # Volumes take over whose a folder is. Below /members stand those of other services.
    && install -d -o swarm -g swarm -m 700 /data /models /members/peer /members/gateway
COPY --from=build /opt/homeswarm /opt/homeswarm
ENV PATH=/opt/homeswarm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_STATE_HOME=/data \
    XDG_CACHE_HOME=/models \
    HF_HOME=/models/huggingface
USER swarm
WORKDIR /data
VOLUME ["/data", "/models"]
# Peers hand over what they run, gateways let answers finish: give them time (stop_grace_period).
STOPSIGNAL SIGTERM
ENTRYPOINT ["swarm"]
CMD ["--help"]
