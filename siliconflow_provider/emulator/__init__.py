"""A local SiliconFlow batch server to develop against and to test with."""
