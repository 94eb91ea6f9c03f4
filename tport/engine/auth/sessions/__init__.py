"""Sessions of people and of programs, and how an application is opened."""
