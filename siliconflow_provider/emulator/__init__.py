"""A local SiliconFlow batch server for development and tests."""
