# One image for the four scripts: which one runs is the entry point's business (docker-compose.yml).
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

# First what changes seldom: a change of the code does not install TensorFlow again.
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt

COPY app_1.py app_2.py model_server_sub.py model_server_pub.py ./
COPY MessageBroker MessageBroker
COPY Modelling Modelling
COPY Queue Queue
COPY DB DB
COPY Pipeline Pipeline

# Queue and DB lie on volumes mounted here; nothing else is written.
RUN useradd --uid 10001 serving && mkdir -p /state/queue /state/db && chown -R serving /state
USER serving
VOLUME ["/state/queue", "/state/db"]

EXPOSE 9100
ENTRYPOINT ["python"]
CMD ["-m", "Pipeline.demo", "--help"]
