# One image for the four scripts and the tools, without TensorFlow: which one runs is the command's
# business (docker-compose.yml, deploy/kubernetes).
#
#   docker build -t event-driven-model-serving .
#   docker run --rm event-driven-model-serving edms-app-1 --help
FROM python:3.12.12-slim-bookworm AS wheel
WORKDIR /source
RUN pip install --no-cache-dir build==1.6.1
# .gitignore: what it names is not built in.
COPY .gitignore pyproject.toml README.md LICENSE app_1.py app_2.py model_server_sub.py model_server_pub.py ./
COPY DB DB
COPY DurableText DurableText
COPY MessageBroker MessageBroker
COPY Modelling Modelling
COPY Pipeline Pipeline
COPY Queue Queue
RUN python -m build --wheel --outdir /wheel

FROM python:3.12.12-slim-bookworm
# The root file system may be read only, so the pictures' library keeps its cache in /tmp.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib
# First what changes seldom: a change of the code does not install its libraries again.
COPY requirements.lock /wheel/
RUN pip install --no-cache-dir --require-hashes -r /wheel/requirements.lock
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --no-deps /wheel/*.whl

# What the scripts write: queue, DB and what they remember, on volumes. Nothing else is written.
RUN useradd --uid 10001 --home-dir /state serving \
  && mkdir -p /state/queue /state/db /state/host \
  && chown -R serving /state
USER 10001
WORKDIR /state
VOLUME ["/state/queue", "/state/db", "/state/host"]

# By habit app_1, model_server_sub, model_server_pub, app_2: each with --metrics-port.
EXPOSE 9101 9102 9103 9104
CMD ["edms", "--help"]
