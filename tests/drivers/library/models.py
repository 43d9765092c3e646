"""The application that `django_orm.py` migrates and queries."""

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=100, unique=True)


class Book(models.Model):
    title = models.TextField()
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    facts = models.JSONField(default=dict)
    copies = models.IntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["title"])]
