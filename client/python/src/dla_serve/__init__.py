"""Client of dla-serve, which classifies photos with Deep Layer Aggregation networks.

    with dla_serve.Client("localhost:8001") as client:
        print(client.classify("photo.jpg").classes[0])
"""

from dla_serve.client import Client
from dla_serve.errors import DlaError
from dla_serve.results import Class, Classification, Model, Result, Timing
from dla_serve.retry import RetryPolicy

__all__ = ["Class", "Classification", "Client", "DlaError", "Model", "Result", "RetryPolicy", "Timing"]
