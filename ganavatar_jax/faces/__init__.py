"""Reads facial expressions from images, behind one small interface (`estimators.Estimator`).

A reader returns blendshape coefficients: numbers near [0, 1] with ARKit names. MediaPipe's face
landmarker runs by LiteRT alone; codes can also come from a file; other estimators plug in by
having `names` and `estimate`.
"""
