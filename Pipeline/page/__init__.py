"""`python -m Pipeline.page`: the pipeline in a browser. Draw a digit, and watch it go round.

Everything that is shown is on a `Board`, which every open browser reads as a stream. What fills it
runs in threads of its own: `live` looks at the scripts' metrics, `broker_link` brings what is
published, `journeys` puts together what is known of one image. `letters` and `results` answer when
they are asked. `server` and `guard` stand between all of it and whoever can reach the port.
"""
