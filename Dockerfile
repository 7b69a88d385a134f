# One image for the four scripts: which one runs is the command's business (docker-compose.yml).
#
#   docker build -t event-driven-model-serving .
#   docker run --rm event-driven-model-serving app_1.py --help
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

# First what changes seldom: a change of the code does not install TensorFlow again.
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
# The clients of the engines for more than one host; in the versions that the tests run with.
COPY requirements-dev.txt .
RUN grep -E '^(redis|psycopg)\[' requirements-dev.txt | pip install --no-cache-dir -r /dev/stdin

COPY app_1.py app_2.py model_server_sub.py model_server_pub.py ./
COPY MessageBroker MessageBroker
COPY Modelling Modelling
COPY DurableText DurableText
COPY Queue Queue
COPY DB DB
COPY Installation Installation
COPY Pipeline Pipeline

# What the scripts write: queue and DB on the volumes, or, without options, where the defaults are
# (the folders themselves; the code in them stays root's). Nothing else is written.
RUN useradd --uid 10001 serving \
  && mkdir -p /state/queue /state/db /state/host .local_broker \
  && chown -R serving /state .local_broker \
  && chown serving Queue DB
USER serving
VOLUME ["/state/queue", "/state/db"]

# By habit app_1, model_server_sub, model_server_pub, app_2: each with --metrics-port.
EXPOSE 9101 9102 9103 9104
ENTRYPOINT ["python"]
CMD ["app_1.py", "--help"]
