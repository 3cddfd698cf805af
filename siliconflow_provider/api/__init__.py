"""The SiliconFlow service: its client, its objects and its errors. Knows nothing of Airflow."""
